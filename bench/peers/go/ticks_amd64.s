// SPDX-License-Identifier: MIT
#include "textflag.h"

// func ticks() uint64: the time-stamp counter, ordered as ../race.hpp orders it.
TEXT ·ticks(SB), NOSPLIT, $0-8
	LFENCE
	RDTSC
	LFENCE
	SHLQ $32, DX
	ORQ  DX, AX
	MOVQ AX, ret+0(FP)
	RET
