/*
 * The "Processors" page of a .vmx file, without a screen: rows of keys and what they may be, the file they change, and the mode that a host
 * would choose for it.
 */
#pragma once

#include "config/vmx.h"
#include "vm/plan.h"

typedef struct EditRow {
    const char *key, *label;
    const char *const *values; /* ended by NULL; the first is what a file without the key means.  NULL: free text */
    bool is_offered;           /* the dialect has it */
    bool was_set;              /* the file had it at first */
} EditRow;

typedef struct EditForm {
    VmxFile *file;
    GArray *rows;     /* EditRow */
    unsigned host;    /* index of the host that is shown: 0 is this one, then plan_host_name() */
    bool is_changed;
    char *removed;    /* keys that went because the dialect lacks them, or NULL: for the user to see */
} EditForm;

/* edit_form_new: NULL with VMM_ERROR_USAGE when the file cannot be read. */
EditForm *edit_form_new(const char *path, GError **error);
void edit_form_free(EditForm *form);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EditForm, edit_form_free)

EditRow *edit_form_row(const EditForm *form, unsigned index);
const char *edit_form_value(const EditForm *form, unsigned index); /* in the file's words where they are known ones */
const char *edit_form_host(const EditForm *form);

/* edit_form_step: the next (+1) or previous (-1) of a row's values; a text row stays.   edit_form_step_host: the host that is shown.
 * edit_form_type: a text row's new value; "" takes the key out of the file. */
void edit_form_step(EditForm *form, unsigned index, int step);
void edit_form_step_host(EditForm *form, int step);
void edit_form_type(EditForm *form, unsigned index, const char *text);

/* edit_form_outcome: what the host would do with the file as it is now: `segue plan`'s words, or why the file is wrong.
 * *out_is_fine: it may be saved.  (transfer full) */
char *edit_form_outcome(const EditForm *form, bool *out_is_fine);
