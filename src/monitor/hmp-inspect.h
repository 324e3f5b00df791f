/* The human monitor's commands that look into the guest: memory, page tables, expressions. */
#pragma once

#include "vm/vm.h"

void hmp_print(Vm *vm, const char *args, GString *out);
void hmp_x(Vm *vm, const char *args, GString *out);  /* linear addresses */
void hmp_xp(Vm *vm, const char *args, GString *out); /* physical ones */
void hmp_gva2gpa(Vm *vm, const char *args, GString *out);
void hmp_memsave(Vm *vm, const char *args, GString *out);
void hmp_pmemsave(Vm *vm, const char *args, GString *out);
void hmp_info_tlb(Vm *vm, GString *out);
void hmp_info_mem(Vm *vm, GString *out);
