#include "bt/insn-table.h"

/* clang-format off */
#define SAME(n, m, enc, pp, first, last, dig, acc, ops, fr, fw, fu, at) \
    {.name = n, .map = m, .encodings = enc, .prefix = pp, .opcode_first = first, .opcode_last = last, .digit = dig, .modrm = -1, \
     .how = HOW_SAME, .access = acc, .operand = ops, .flags_read = fr, .flags_written = fw, .flags_undefined = fu, .attr = at},
#define SAMEX(n, m, enc, pp, op, mrm, acc, ops, fr, fw, fu, at) \
    {.name = n, .map = m, .encodings = enc, .prefix = pp, .opcode_first = op, .opcode_last = op, .digit = -1, .modrm = mrm, \
     .how = HOW_SAME, .access = acc, .operand = ops, .flags_read = fr, .flags_written = fw, .flags_undefined = fu, .attr = at},
#define CALL(n, m, enc, pp, first, last, dig, acc, ops, fr, fw, fu, at, ex) \
    {.name = n, .map = m, .encodings = enc, .prefix = pp, .opcode_first = first, .opcode_last = last, .digit = dig, .modrm = -1, \
     .how = HOW_CALL, .access = acc, .operand = ops, .flags_read = fr, .flags_written = fw, .flags_undefined = fu, .attr = at, .exec = ex},
#define CALLX(n, m, enc, pp, op, mrm, acc, ops, fr, fw, fu, at, ex) \
    {.name = n, .map = m, .encodings = enc, .prefix = pp, .opcode_first = op, .opcode_last = op, .digit = -1, .modrm = mrm, \
     .how = HOW_CALL, .access = acc, .operand = ops, .flags_read = fr, .flags_written = fw, .flags_undefined = fu, .attr = at, .exec = ex},
#define EMIT(n, m, enc, pp, first, last, dig, acc, ops, fr, fw, fu, at, t) \
    {.name = n, .map = m, .encodings = enc, .prefix = pp, .opcode_first = first, .opcode_last = last, .digit = dig, .modrm = -1, \
     .how = HOW_EMIT, .access = acc, .operand = ops, .flags_read = fr, .flags_written = fw, .flags_undefined = fu, .attr = at, .tr = t},
#define EMITX(n, m, enc, pp, op, mrm, acc, ops, fr, fw, fu, at, t) \
    {.name = n, .map = m, .encodings = enc, .prefix = pp, .opcode_first = op, .opcode_last = op, .digit = -1, .modrm = mrm, \
     .how = HOW_EMIT, .access = acc, .operand = ops, .flags_read = fr, .flags_written = fw, .flags_undefined = fu, .attr = at, .tr = t},
#define NOP(n, m, enc, pp, first, last, dig, acc, ops, at) \
    {.name = n, .map = m, .encodings = enc, .prefix = pp, .opcode_first = first, .opcode_last = last, .digit = dig, .modrm = -1, \
     .how = HOW_NOP, .access = acc, .operand = ops, .attr = at},

const InsnRow insn_table[] = {
#include "bt/insn-table.def"
    {.name = NULL},
};
/* clang-format on */

const unsigned insn_table_rows = sizeof insn_table / sizeof insn_table[0] - 1;
