// SPDX-License-Identifier: MIT
//
// What words mean at every vendor: the part of classify() that needs no vendor's table. Each row is a pattern of
// match_words(): alternatives apart by '|', and after " ~ " what must follow within 64 characters. Rows of `telling`
// are so plain that they count before codes, since resellers pass on codes of other servers; rows of `hints` count
// after them. The first row that matches decides.
#pragma once

#include <cstdint>
#include <string_view>

#include "../error_rule.hpp"

namespace weir::inline v0::llm::detail {

/// The statuses for which a row counts. An answer without a failing status (0, 200) is any of them.
enum class when : unsigned char {
    any,
    not_400,   ///< not a bad request
    refused,   ///< 400 to 499 but 429
    no_model,  ///< refused, or 503: resellers that have no channel
    bad,       ///< refused, and not for the key, the money or the model: not 401 to 404
    server,    ///< 408, 409, 424, 500 to 599
    too_much,  ///< not 401, not 404
};

constexpr bool counts(when w, int status) noexcept {
    if (status < 300) return true;
    switch (w) {
        case when::any: return true;
        case when::not_400: return status != 400;
        case when::refused: return status >= 400 && status < 500 && status != 429;
        case when::no_model: return (status >= 400 && status < 500 && status != 429) || status == 503;
        case when::bad: return status == 400 || (status > 404 && status < 500 && status != 429);
        case when::server: return status >= 500 || status == 408 || status == 409 || status == 424;
        case when::too_much: return status != 401 && status != 404;
    }
    return true;
}

struct word_rule {
    std::string_view words;
    llm::cause cause;
    llm::action action;
    std::string_view reason;
    detail::when when = detail::when::any;
    unsigned max_retries = 0;
};

struct [[gnu::__visibility__("hidden")]] error_words {
    using enum cause;
    using enum action;

    static constexpr word_rule telling[] = {
        // The server is at capacity.
        {"负载已饱和|上游负载|负载饱和|访问量过大|服务器繁忙|系统繁忙|服务繁忙|模型繁忙|服务过载|引擎过载|资源紧张|"
         "算力不足|"
         "负载过高|负载较高|服务器负载|忙碌",
         overload, retry, "the server is at capacity"},
        {"overloaded|over capacity|at capacity|high demand|high load|high traffic|heavy load|heavy traffic|too busy|"
         "server busy|servers are busy|server is busy|system is busy|service is busy|model is busy|service busy|"
         "capacity exceeded|no capacity|capacity temporarily|capacity limits|insufficient capacity|not enough capacity|"
         "capacity constraints|out of capacity|lack of capacity|server overload|saturated|no available capacity",
         overload, retry, "the server is at capacity"},
        {"currently loading|model is loading|loading model|still loading|not ready for inference|no healthy upstream|"
         "upstream connect error|pending requests exceeded|no deployments available|"
         "engine not available|temporarily unavailable|no slot available|no available slot|queue is full|queue full",
         overload, retry, "the server is not ready or its queue is full"},
        // The account is closed for what it did: not the content of this request.
        {"access was terminated|account has been terminated|account terminated|account has been banned|account banned|"
         "user is banned|user banned|account has been locked|account is "
         "locked|账号已被封|账户被锁|账号被封|封禁|账户已锁定",
         authentication, next_account, "the account is closed"},
        // Bad content.
        {"content policy|content management policy|content polic|usage policy|usage policies|usage guidelines|"
         "safety system|safety filter|safety policy|safety reasons|safety check|content filter|content moderation|"
         "requires moderation|was flagged|were flagged|is flagged|inappropriate content|sensitive content|"
         "sensitive information|sensitive words|new sensitive|prohibited content|considered high risk|"
         "content exists risk|datainspection|data inspection|responsibleaipolicy|responsible ai|harmful content|"
         "guardrail|blocked by our|unsafe content|content violat|moderation blocked|image safety|violates our|"
         "敏感|违规|不安全|不合规|不当内容|涉黄|安全审核|风险内容|内容审核|内容安全",
         bad_request, give_up, "the content is not allowed"},
        // Larger than a limit on tokens, or than the model can take.
        {"request too large for|request body too large|reduce your message size|tokens must be reduced|"
         "larger than the limit",
         token_rate, next_model, "the request is larger than the limit"},
        {"context length|context window|context size|maximum context|prompt is too long|input is too long|too long for|"
         "reduce the length of|model token limit|longer than the maximum|input length|maximum prompt length|超长|"
         "prompt too long|tokens must be|maximum content size|payload too large|request entity too large|request "
         "exceeds the maximum size|input tokens exceed|超过最大长度|长度超过",
         bad_request, give_up, "the request is too long", when::too_much},
        // Money.
        {"insufficient|not enough|not sufficient|inadequate| low |too low|out of|ran out of|run out "
         "of|exhausted|depleted|"
         "negative|used all|used up all|no remaining|have any|lack of|lacks|has no|zero ~ balance|credit|credits| "
         "funds|余额",
         billing, next_account, "the account is out of credit"},
        {"balance|credit|credits|funds ~ too low|is low|insufficient|not enough|exhausted|depleted|used up|expired|run "
         "out|"
         "ran out|is negative|not sufficient|required|has been reached",
         billing, next_account, "the account is out of credit"},
        {"requires more credits|add more credits|purchase more credits|purchase credit|buy credits|buy more credits|"
         "top up|please recharge|recharge your|add credits|add funds|never purchased|only afford|prepayment|"
         "included credits|no credits yet|credit limit|credit allowance|extra usage is required|key limit "
         "exceeded|safe experience",
         billing, next_account, "the account is out of credit"},
        {"payment required|payment instrument|update your payment|payment information|payment failed|unpaid|past "
         "due|past invoices|overdue|"
         "arrear|outstanding balance|outstanding invoice|billing hard limit|billing not active|"
         "issue with your billing|check your billing|enable billing|billing is disabled|billing is not enabled|"
         "billing to be enabled|billing problem|account is not active|in good standing|not purchased|unpurchased|"
         "subscription has expired|subscription expired|subscription is disabled|no active subscription",
         billing, next_account, "the account has a billing problem"},
        {"spend limit|spending limit|spend cap|spending cap|spending quota|monthly spend|hard limit has been "
         "reached|over budget|"
         "budget has been exceeded|budget exceeded|exceeded budget|exceeded your budget|exceededbudget|max budget|"
         "budget limit|exceeds budget|insufficient user quota|insufficient token quota|quota is not enough|"
         "quota not enough|pre consume",
         billing, next_account, "the account's budget is spent"},
        {"account|organization|project|team|workspace ~ suspended|has been disabled|been restricted|is restricted due",
         billing, next_account, "the account is suspended"},
        {"余额不足|余额已|余额为|余额小于|欠费|逾期|充值|额度不足|额度已用尽|额度已用完|额度用尽|额度已耗尽|配额不足|"
         "续费|"
         "未付费|停机|停服|资源包|账单|预扣费|套餐已到期|套餐到期|订阅已过期|账户冻结|账户已冻结|余量已用尽|费用不足",
         billing, next_account, "the account is out of credit"},
        // Allowances of hours to months.
        {"daily|weekly|monthly|hourly|yearly|5 hour|five hour|3 hour|session ~ limit|quota|allowance|cap "
         "|allocation|usage|"
         "allocated",
         plan_quota, next_account, "an allowance of the plan is exhausted"},
        {"limit|quota|allowance ~ for 5 hour|5 hour|per day|per week|per month|for today|for the day|of the day|of the "
         "month",
         plan_quota, next_account, "an allowance of the plan is exhausted"},
        {"per day|per week|per month|perday|permonth|perweek|bymodelbyday|per 86400s|calls month|requests month|calls "
         "day|"
         "requests day|tokens day|tokens month|per calendar| rpd | tpd |usage limit|usage limits|regain access|"
         "usage quota",
         plan_quota, next_account, "an allowance of the plan is exhausted", when::too_much},
        {"每日|每天|当日|今日|当天|本周|每周|本月|每月|当月|小时 ~ 限额|上限|额度|次数|用量|配额|限制", plan_quota,
         next_account, "an allowance of the plan is exhausted"},
        {"使用上限|用量上限|限额将在|额度将在", plan_quota, next_account, "an allowance of the plan is exhausted"},
        // Rates.
        {"increased too quickly|increased too fast|rate growth|acceleration limit|usage increase rate|burst rate|"
         "request burst|smooth your request|ramp up|more gradually|增长过快",
         burst, retry_slower, "requests grew too fast"},
        {"concurren|parallel request|in flight|simultaneous|并发|conn limit|too many connections|connection limit|同时",
         concurrency, retry, "too many calls at once", when::not_400},
        {"request rate limit|requests rate limit|call rate limit", request_rate, retry, "too many requests per minute",
         when::too_much},
        {"tokens per min|tokens min|tokens per sec|token rate limit|tokensper|token count per|tpm limit|tpm "
         "rate|tokens per m|"
         "input tokens per|output tokens per|too many tokens please wait|limit type tokens|token per minute|"
         "token quota exceeded",
         token_rate, retry, "too many tokens per minute", when::too_much},
        {"tokens ~ per minute|per second rate", token_rate, retry, "too many tokens per minute", when::too_much},
        {"requests per min|requests min|request per minute|requests per sec|request per second|queries per|calls per|"
         "calls minute|calls second|rpm limit|rpm rate|max rpm|for rpm|requestsper|requests per m|images per min|"
         "per minute request|request limit per| qps | qpm |每秒请求|请求频率|频率上限|请求数限制|请求次数|请求速率|"
         "generate content requests|rpm exceeded|request quota exceeded",
         request_rate, retry, "too many requests per minute", when::too_much},
        {"requests|request|calls ~ per minute|per second|in 1 minute|per min ", request_rate, retry,
         "too many requests per minute", when::too_much},
        {" tpm ", token_rate, retry, "too many tokens per minute", when::too_much},
        {" rpm ", request_rate, retry, "too many requests per minute", when::too_much},
        // The key.
        {"api key not valid|api key expired|api key invalid|invalid api key|incorrect api key|invalid x api key",
         authentication, next_account, "the key is not valid", when::refused},
        // The model.
        {"model|models|deployment|engine|模型 ~ not found|does not exist|not exist|not supported by|is not supported|"
         "not available|not a valid|no longer|decommissioned|deprecated|retired|not been activated|is not activated|"
         "disabled|is restricted|not deployed|identifier is invalid|无可用渠道|不存在|未开放|未开通|下线",
         no_model, next_model, "no such model, or not for this account", when::no_model},
        {"unknown model|not support model|not support the model|invalid model|no such model|unsupported model|not "
         "found the model|have access to model|"
         "have access to the model|not activated the model|to use the model|to access the model|no endpoints found|"
         "no available channel|无可用渠道|valid model id|model id is invalid|unable to access model|inference "
         "profile|no allowed providers",
         no_model, next_model, "no such model, or not for this account", when::no_model},
    };

    static constexpr word_rule hints[] = {
        {"insufficient quota|insufficient balance|insufficient credits|exceeded your current quota|check your "
         "plan|billing",
         billing, next_account, "the account has a billing problem", when::too_much},
        {"quota ~ will be replenished|will reset|resets|has been exhausted|is exhausted|used up|refreshed", plan_quota,
         next_account, "an allowance of the plan is exhausted"},
        {"your limit will reset|limit ~ reset at|resets at", plan_quota, next_account,
         "an allowance of the plan is exhausted"},
        {"model not found|model not exist|modelnotopen|modelnotfound|deploymentnotfound|model decommissioned|"
         "model not available|model permission blocked",
         no_model, next_model, "no such model, or not for this account", when::no_model},
        {"api key|apikey|token|credentials|key|secret ~ invalid|incorrect|expired|not valid|leaked|disabled|not found|"
         "revoked|missing|wrong|not exist",
         authentication, next_account, "the key is not valid", when::refused},
        {"invalid|incorrect|wrong|expired|no|missing|bad ~ api key|apikey|api token|token |access token|credentials|"
         "authentication|auth |subscription key|authorization",
         authentication, next_account, "the key is not valid", when::refused},
        {"unauthorized|unauthenticated|authentication fail|authentication error|insufficient permission|missing "
         "scope|login fail|user not found|accessdenied|"
         "access denied|permission denied|not authorized|please log in|无效的令牌|令牌|身份验证|鉴权|签名过期|签名|"
         "无权|权限不足|expiredtoken|unrecognizedclient|authfailure|forbidden",
         authentication, next_account, "the key is not valid, or lacks a permission", when::refused},
        {"rate limit|rate limited|ratelimit|too many requests|toomanyrequests|throttl|frequency|rate "
         "exceeded|频繁|限流|过快|"
         "速率限制|too fast|limit exceeded|slow down|limitexceeded|限频|rate of requests|访问频率|请求过多|rate "
         "limiting",
         rate, retry, "throttled", when::too_much},
        {"service unavailable|serviceunavailable|bad gateway|gateway timeout|connection reset|connection "
         "refused|upstream|"
         "服务不可用|网关",
         overload, retry, "the server is not available", when::server},
        {"server error|internal error|internalerror|internalserver|internal server|had an error|unexpected|timed out|"
         "timeout|modelerror|内部错误|系统错误|服务异常|网络错误|超时|server failure|internal failure",
         server_error, retry, "the server failed", when::server, 3},
        {"invalid request|bad request|badrequest|invalid parameter|invalidparameter|invalid param|invalid argument|"
         "validation|is required|missing required|unprocessable|not valid|参数|不合法|格式错误|must be",
         bad_request, give_up, "the request is not valid", when::bad},
    };
};

}  // namespace weir::inline v0::llm::detail
