# SPDX-License-Identifier: MIT
"""Finds what can be changed in a header, and gives every change an id.

The id of a mutant is `function/operator/digest`:

    function  the qualified name of the enclosing function, or class outside of functions; without namespaces and template arguments
    operator  the kind of change, see SWAPS and changes_of
    digest    of the tokens of the statement, before and after the change

An id does not depend on the header's name, the position in the header, line breaks or comments. The statement is the smallest one:
a block in it counts as `{...}`, the head of an `if` or a loop ends at its brace, each initialiser of a constructor is one statement.
Mutants that would have the same id are numbered: `~2`, `~3`. The order is that of their functions' heads, then of their positions: to move
an overload changes no number.
"""
import bisect
import glob
import hashlib
import os
import re
from collections import Counter, namedtuple

Mutant = namedtuple("Mutant", "id header operator begin end texts line before after head")
Place = namedtuple("Place", "name head")  # a function: its qualified name, and the text before its brace


# ---------------------------------------------------------------- the text


LEXICAL = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])\'', re.S)
PREPROCESSOR = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.M)
NONSPACE = re.compile(r"\S")


def blank(m):
    return re.sub(r"[^\n]", " ", m.group(0))


def without_comments(source):
    """The source without comments and preprocessor lines. Every character keeps its position."""
    return PREPROCESSOR.sub(blank, LEXICAL.sub(lambda m: blank(m) if m.group(0)[0] == "/" else m.group(0), source))


def masked(source):
    """The source with everything blanked that is not mutated. Every character keeps its position."""
    text = PREPROCESSOR.sub(blank, LEXICAL.sub(blank, source))
    text = re.sub(r"\[\[.*?\]\]", blank, text, flags=re.S)
    # The name of an operator function becomes a plain name of the same length.
    text = re.sub(r"\boperator\s*(?:<=>|[-+*/%=!<>&|^~]+|\(\)|\[\])", lambda m: "operator".ljust(len(m.group(0)), "_"), text)
    out = list(text)

    def erase(begin, end):
        for k in range(begin, end):
            if out[k] != "\n":
                out[k] = " "

    for m in re.finditer(r"\b(static_assert|noexcept|alignas|decltype|sizeof)\s*\(", text):
        erase(m.start() if m.group(1) == "static_assert" else m.end() - 1, closing(text, m.end() - 1))
    for m in re.finditer(r"\btemplate\s*<", text):
        erase(m.start(), closing_angle(text, m.end() - 1))
    text = "".join(out)
    for m in re.finditer(r"\bconcept\b", text):
        erase(m.start(), end_of_statement(text, m.end()))
    for m in re.finditer(r"\brequires\b", text):
        if out[m.start()] == " ":
            continue  # in what is erased already
        erase(m.start(), end_of_requires(text, m.start(), m.end()))
    return "".join(out)


def next_at(text, begin):
    """The position of the next character that is not white space."""
    m = NONSPACE.search(text, begin)
    return m.start() if m else len(text)


def closing(text, opening):
    depth = 0
    for k in range(opening, len(text)):
        depth += (text[k] in "([{") - (text[k] in ")]}")
        if depth == 0:
            return k + 1
    return len(text)


def closing_angle(text, opening):
    depth, k = 0, opening
    while k < len(text):
        if text[k] in "([{":
            k = closing(text, k)
            continue
        depth += (text[k] == "<") - (text[k] == ">" and text[k - 1] != "-")
        k += 1
        if depth == 0:
            return k
    return len(text)


def end_of_statement(text, begin):
    depth = 0
    for k in range(begin, len(text)):
        depth += (text[k] in "([{") - (text[k] in ")]}")
        if depth == 0 and text[k] == ";":
            return k + 1
    return len(text)


def end_of_requires(text, begin, end):
    """The end of a requires clause or expression; [begin, end) is the keyword."""
    before = text[max(0, begin - 200):begin].rstrip()
    if before[-1:] in ("=", "(", "!", ",", "?") or before[-2:] in ("&&", "||") or re.search(r"\b(return|requires)$", before):
        return end_of_requires_expression(text, end)
    while True:  # a clause: primary expressions joined by && and ||
        at = next_at(text, end)
        if text[at] == "(":
            end = closing(text, at)
        elif re.match(r"requires\b", text[at:at + 9]):
            end = end_of_requires_expression(text, at + 8)
        else:
            end = at
            while m := re.compile(r"\s*(?:::\s*)?\w+").match(text, end):
                end = m.end()
                if text[next_at(text, end)] == "<":
                    end = closing_angle(text, next_at(text, end))
                if not text.startswith("::", next_at(text, end)):
                    break
        at = next_at(text, end)
        if not text.startswith(("&&", "||"), at):
            return end
        end = at + 2


def end_of_requires_expression(text, end):
    at = next_at(text, end)
    if text[at] == "(":
        at = next_at(text, closing(text, at))
    return closing(text, at)


TOKEN = re.compile(r'"(?:\\.|[^"\\\n])*"|\d(?:[eEpP][-+]|[\w.\'])*|\'(?:\\.|[^\'\\\n])\'|\w+'
                   r'|<=>|<<=|\.\.\.|->|::|&&|\|\||\+\+|--|<<|[-+*/%&|^=!<>]=|\S')


def tokens_of(text):
    found = []
    for token in TOKEN.findall(text):
        if token[0] == '"' and found and found[-1][0] == '"':  # clang-format breaks strings
            found[-1] = found[-1][:-1] + token[1:]
        else:
            found.append(token)
    return found


def squeezed(text):
    """On one line, with spaces as if no line had been broken."""
    return re.sub(r"(::|[(\[]) | (?=[)\],;])", r"\1", " ".join(text.split()))


# ---------------------------------------------------------------- functions and statements


CONTROL = re.compile(r"\s*(?:\}\s*)?(?:else\s+)?(?:if|for|while|switch|catch|else|do|try)\b")
LABEL = re.compile(r"\s*(?:case\b(?:[^:]|::)+?|default|public|private|protected)\s*:(?!:)")
SCOPE = re.compile(r"\b(namespace|class|struct|union|enum(?:\s+(?:class|struct))?)\b(?:\s*alignas\b)?\s*((?:\w+\s*::\s*)*\w*)[^()=]*$")
CODE = re.compile(r"([)\]}]|\b(const|noexcept|mutable|else|do|try)|->\s*[\w:<>,&\s*]+)\s*$")


class Frame:
    def __init__(self, kind, opening, parens, place):
        self.kind = kind  # "scope", "enum", "code", "init": the braces of an initialiser, or "row": those of a table's row
        self.opening = opening  # the position after the brace
        self.begin = opening  # where the current statement begins
        self.parens = parens  # how many parentheses are open at the brace
        self.place = place
        self.goes_on = ()  # characters after the closing brace with which the statement goes on


class Layout:
    """Where the statements and functions of a header are.

    runs        [(begin, end, place)]: the text between the braces of blocks, and semicolons
    statements  [(begin, end)]: the statements of functions, with the blocks in them
    bodies      [(position after the brace, begin of the head, end of the head, place)]
    blocks      [(begin, end)]: the text between the braces of code
    """

    def __init__(self, text, source):
        self.text, self.source = text, source
        self.runs, self.statements, self.bodies, self.blocks = [], [], [], []
        self.run = 0  # where the current run begins
        self.stack = [Frame("scope", 0, 0, Place("", ""))]
        self.parens = 0
        for i, c in enumerate(text):
            top = self.stack[-1]
            if c in "([":
                self.parens += 1
            elif c in ")]":
                self.parens -= 1
            elif c == "{":
                self.open(i, top)
            elif c == "}" and len(self.stack) > 1:
                self.close(i, self.stack.pop())
            elif c == ";" and self.parens == top.parens and top.kind not in ("init", "row"):
                self.end_run(i + 1, i + 1, top.place)
                if top.kind == "code":
                    self.statements.append((top.begin, i + 1))
                top.begin = i + 1
            elif c == "," and self.parens == top.parens and top.kind == "enum":
                self.end_run(i, i + 1, top.place)
        self.runs.sort()
        self.blocks.sort()

    def open(self, i, top):
        begin = next_at(self.text, self.after_labels(top.begin, i))
        head = self.text[begin:i]
        scope = SCOPE.search(head) if self.parens == top.parens else None
        place = top.place
        if scope:
            kind = "enum" if scope.group(1).startswith("enum") else "scope"
            if scope.group(1) != "namespace":
                place = Place(qualified(place.name, scope.group(2)), place.head)
            self.end_run(i, i + 1, place)
        elif CODE.search(head) or begin == i and top.kind == "code":
            kind = "code"
            own, end = self.function_of(begin, i) if top.kind == "scope" else (None, i)
            if own:
                place = Place(qualified(place.name, own), "".join(head.split()))
                self.end_head(begin, end, i, place)
            else:
                self.end_run(i, i + 1, place)
            if head and not CONTROL.match(head) and self.text[next_at(self.text, i + 1)] != "}":
                self.bodies.append((i + 1, begin, end, place))
        elif top.kind == "init" and self.stack[-2].kind not in ("init", "row") and self.is_row(i, top):
            kind = "row"
            self.end_run(i, i + 1, place)
        else:
            kind = "init"
        self.stack.append(Frame(kind, i + 1, self.parens, place))
        if kind == "code" and not own and "[" in head and not CONTROL.match(head):  # a lambda
            self.stack[-1].goes_on = (";", ",", ")", "(")

    def close(self, i, frame):
        if frame.kind == "init":
            return
        self.end_run(i, i + 1, frame.place)
        if frame.kind in ("code", "row"):
            self.blocks.append((frame.opening, i))
        after = next_at(self.text, i + 1)
        goes_on = frame.kind == "row" or self.text[after:after + 1] in frame.goes_on
        if self.parens == self.stack[-1].parens and not goes_on:
            self.stack[-1].begin = i + 1

    def is_row(self, i, top):
        """Whether the brace opens a row of a table: `{{a, b}, {c, d}}`."""
        return self.text[next_at(self.text, top.opening)] == "{" and self.text[:i].rstrip()[-1] in "{,"

    def after_labels(self, begin, end):
        while m := LABEL.match(self.text[begin:end]):
            begin += m.end()
        return begin

    def end_run(self, end, following, place):
        begin = self.after_labels(self.run, end)
        for part in ((self.run, begin), (begin, end)):
            if self.text[part[0]:part[1]].strip():
                self.runs.append((next_at(self.text, part[0]), part[1], place))
        self.run = following

    def end_head(self, begin, end, brace, place):
        """Ends the run at a function's brace: the initialisers of a constructor, which begin at `end`, are runs of their own."""
        if self.run > begin:  # a lambda among them
            self.runs = [(b, e, place if b >= begin else p) for b, e, p in self.runs]
        elif end < brace:
            self.end_run(end, end + 1, place)
            depth = 0
            for k in range(end + 1, brace):
                depth += (self.text[k] in "([{") - (self.text[k] in ")]}")
                if depth == 0 and self.text[k] == "," and self.text[end:k].rstrip()[-1] in ")}.":
                    self.end_run(k, k + 1, place)
        self.end_run(brace, brace + 1, place)

    def function_of(self, begin, brace):
        """The name of the function with this head, None for a lambda; and where the head without initialisers ends."""
        plain, k = "", begin  # the head up to k without template arguments
        while k < brace:
            c = self.text[k]
            if c in "=[":
                break
            if c == "<":
                k = min(brace, closing_angle(self.text, k))
                continue
            if c == "(" and not re.search(r"\b(explicit|__attribute__)\s*$", plain):
                symbol = re.search(r"((?:\w+\s*::\s*)*)\boperator(?![A-Za-z0-9])", plain)
                name = re.search(r"~?\w+(?:\s*::\s*~?\w+)*\s*$", plain)
                if not name:
                    break
                name = name.group(0)
                if symbol:
                    name = symbol.group(1) + self.source[self.source.rfind("operator", begin, k):k]
                initialisers = re.compile(r"(?:\s|const\b|noexcept\b)*:(?!:)").match(self.text, closing(self.text, k))
                end = initialisers.end() - 1 if initialisers and initialisers.end() < brace else brace
                return name, end
            if c == "(":
                k = closing(self.text, k)
            else:
                plain += c
                k += 1
        return None, brace

    def run_at(self, position):
        k = bisect.bisect_right(self.runs, position, key=lambda r: r[0]) - 1
        return self.runs[k] if k >= 0 and position < self.runs[k][1] else (position, position, Place("", ""))

    def excerpt(self, clean, begin, end):
        """clean[begin:end], with `...` for what is in the blocks."""
        parts = []
        k = bisect.bisect_left(self.blocks, (begin, 0))
        for b, e in self.blocks[k:]:
            if b >= end:
                break
            if b > begin and e <= end and clean[b:e].strip():
                parts.append(clean[begin:b] + "...")
                begin = e
        return "".join(parts) + clean[begin:end]


def qualified(outer, name):
    return "::".join(filter(None, [outer, "".join(name.split())]))


# ---------------------------------------------------------------- the operators


# What becomes what: the first group of the pattern, or all of it. Patterns must not depend on where lines end.
SWAPS = [
    ("compare", r"(?<=\s)<=(?=\s)", "<"), ("compare", r"(?<=\s)<(?=\s)", "<="),
    ("compare", r"(?<=\s)>=(?=\s)", ">"), ("compare", r"(?<=\s)>(?=\s)", ">="),
    ("equal", r"(?<=\s)==(?=\s)", "!="), ("equal", r"(?<=\s)!=(?=\s)", "=="),
    ("arithmetic", r"(?<=\s)\+(?=\s)", "-"), ("arithmetic", r"(?<=\s)-(?=\s)", "+"),
    ("arithmetic", r"(?<=\s)\*(?=\s)", "/"), ("arithmetic", r"(?<=\s)/(?=\s)", "*"), ("arithmetic", r"(?<=\s)%(?=\s)", "/"),
    ("assign", r"(?<=\s)\+=(?=\s)", "-="), ("assign", r"(?<=\s)-=(?=\s)", "+="),
    ("step", r"\+\+", "--"), ("step", r"(?<!-)--(?!-)", "++"),
    ("bits", r"(?<=\s)&(?=\s)", "|"), ("bits", r"(?<=\s)\|(?=\s)", "&"),
    ("bits", r"(?<=\s)<<(?=\s)", ">>"), ("bits", r"(?<=\s)>>(?=\s)", "<<"), ("bits", r"~(?=\w|\()", ""),
    ("logic", r"(?<=\s)&&(?=\s)", "||"), ("logic", r"(?<=\s)\|\|(?=\s)", "&&"),
    ("negation", r"(?<![\w)\]])!(?=[\w(])", ""),
    ("truth", r"\btrue\b", "false"), ("truth", r"\bfalse\b", "true"),
    ("bound", r"\bstd::\s*(min)(?=[(<])", "max"), ("bound", r"\bstd::\s*(max)(?=[(<])", "min"),
    ("bound", r"\bsaturating_add\b(?=\()", "saturating_sub"), ("bound", r"\bsaturating_sub\b(?=\()", "saturating_add"),
    ("bound", r"(?<=\.)floor\b", "ceil"), ("bound", r"(?<=\.)ceil\b", "floor"),
    ("bound", r"\bmul_div_floor\b", "mul_div_ceil"), ("bound", r"\bmul_div_ceil\b", "mul_div_floor"),
    ("bound", r"::\s*(min)(?=\(\))", "max"), ("bound", r"::\s*(max)(?=\(\))", "min"),
]
ORDERS = [("order", r"memory_order_acquire\b", "memory_order_relaxed"), ("order", r"memory_order_release\b", "memory_order_relaxed"),
          ("order", r"memory_order_acq_rel\b", "memory_order_acquire"), ("order", r"memory_order_acq_rel\b", "memory_order_release")]
NO_STATEMENT = re.compile(r"(co_return|using|typedef|static_assert|friend|template|return|static|struct|class|enum|goto)\b")


def changes_of(text, layout):
    """(operator, begin, end, texts): each puts one of the texts in place of [begin, end)."""
    for operator, pattern, replacement in SWAPS + ORDERS:
        for m in re.finditer(pattern, text):
            yield operator, *m.span(m.lastindex or 0), (replacement,)
    for m in re.finditer(r"(?<![\w.'])(\d[\d']*|0x[\da-fA-F']+)([uUlL]*)\b(?![.'>])", text):
        before = text[:m.start()].rstrip()
        if re.search(r"\w<$", before[-2:]):
            continue  # a template argument
        value = int(m.group(1).replace("'", ""), 0)
        yield "constant", m.start(), m.end(), (f"{value + 1}{m.group(2)}",)
        if value > 0:
            yield "constant", m.start(), m.end(), (f"{value - 1}{m.group(2)}",)
    for m in re.finditer(r"\bif\s*\(", text):
        end = closing(text, m.end() - 1)
        yield "condition", m.end(), end - 1, ("true",)
        yield "condition", m.end(), end - 1, ("false",)
    for begin, end in layout.statements:
        begin = next_at(text, layout.after_labels(begin, end))
        if begin < end - 1 and not NO_STATEMENT.match(text, begin):
            yield "delete", begin, end, ("else {}" if text.startswith("else", begin) else "{}",)
    for at, *_ in layout.bodies:
        yield "early-return", at, at, (" return {};", " return;")


def mutants_of(header, source):
    """The mutants of one header. Their ids are not numbered."""
    text, clean = masked(source), without_comments(source)
    layout = Layout(text, source)
    bodies = {b[0]: b for b in layout.bodies}
    seen = set()  # a change that makes the same text as another is left out
    for operator, begin, end, texts in changes_of(text, layout):
        if (begin, end, texts) in seen:
            continue
        seen.add((begin, end, texts))
        if operator == "early-return":
            _, first, last, place = bodies[begin]
            before = layout.excerpt(clean, first, last).rstrip() + " {"
            after = before + texts[0]
        else:
            first, last, place = layout.run_at(begin)
            if operator == "delete":
                first, last = begin, end
            last = max(end, last)
            before = layout.excerpt(clean, first, last)
            after = layout.excerpt(clean, first, begin) + texts[0] + layout.excerpt(clean, end, last)
        before, after = squeezed(before), squeezed(after)
        yield Mutant(id_of(place.name or "namespace", operator, before, after), header, operator, begin, end, texts,
                     source.count("\n", 0, begin) + 1, before, after, place.head)


def id_of(function, operator, before, after):
    digest = hashlib.sha256("\n".join([*tokens_of(before), "=>", *tokens_of(after)]).encode())
    return f"{function}/{operator}/{digest.hexdigest()[:8]}"


def headers_in(include):
    """The paths of all headers, from `include`/weir."""
    top = os.path.join(include, "weir")
    return sorted(os.path.relpath(p, top) for p in glob.glob(os.path.join(top, "**", "*.hpp"), recursive=True))


def mutants_in(include):
    """The mutants of all headers, each with an id of its own."""
    found = []
    for header in headers_in(include):
        with open(os.path.join(include, "weir", header), encoding="utf-8") as f:
            found += mutants_of(header, f.read())
    count = Counter()
    numbered = []
    for m in sorted(found, key=lambda m: (m.id, m.head, m.header, m.begin)):
        count[m.id] += 1
        numbered.append(m._replace(id=f"{m.id}~{count[m.id]}") if count[m.id] > 1 else m)
    return sorted(numbered, key=lambda m: (m.header, m.begin))
