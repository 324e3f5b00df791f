#include "cli/edit-form.h"

#include <string.h>

#include "cli/command.h"
#include "config/dialect.h"

static const char *const counts[] = { "1", "2", "3", "4", "6", "8", "12", "16", NULL };

static const struct {
    const char *key, *label;
} labels[] = {
    { "monitor.virtual_exec", "Preferred execution" },       { "monitor.virtual_mmu", "Preferred memory unit" },
    { "monitor.long_mode", "At 64-bit entry" },              { "monitor.fallback", "Falling back" },
    { "monitor.adaptive", "Switch by itself" },              { "monitor_control.vt32", "VT-x for 32-bit guests" },
    { "monitor_control.enable_svm", "AMD-V (experimental)" },
};

static void row_add(EditForm *form, const char *key, const char *label, const char *const *values)
{
    EditRow row = { .key = key, .label = label, .values = values, .is_offered = true, .was_set = vmx_get(form->file, key) != NULL };
    g_array_append_val(form->rows, row);
}

/* The names of the dialects, the default first. */
static const char *const *dialect_values(void)
{
    static const char *values[DIALECT_COUNT + 1];
    values[0] = dialect_name(DIALECT_CURRENT);
    for (unsigned dialect = 0; dialect < DIALECT_CURRENT; dialect++)
        values[dialect + 1] = dialect_name((Dialect)dialect);
    return values;
}

static Dialect form_dialect(const EditForm *form)
{
    const char *name = vmx_get(form->file, "config.dialect");
    Dialect dialect = DIALECT_CURRENT;
    return name && dialect_from_name(name, &dialect, NULL) ? dialect : DIALECT_CURRENT;
}

/* Rows that the dialect does not have are not shown, and their keys leave the file. */
static void rows_offer(EditForm *form)
{
    Dialect dialect = form_dialect(form);
    g_clear_pointer(&form->removed, g_free);
    for (guint i = 0; i < form->rows->len; i++) {
        EditRow *row = edit_form_row(form, i);
        if (!dialect_is_mode_key(row->key))
            continue;
        row->is_offered = dialect_has(dialect, row->key);
        if (row->is_offered || !vmx_get(form->file, row->key))
            continue;
        char *list = form->removed ? g_strconcat(form->removed, ", ", row->key, NULL) : g_strdup(row->key);
        g_free(form->removed);
        form->removed = list;
        vmx_remove(form->file, row->key);
    }
}

EditForm *edit_form_new(const char *path, GError **error)
{
    g_autoptr(EditForm) form = g_new0(EditForm, 1);
    form->rows = g_array_new(FALSE, TRUE, sizeof(EditRow));
    form->file = vmx_load(path, error);
    if (!form->file)
        return NULL;
    row_add(form, "config.dialect", "Rules of", dialect_values());
    row_add(form, "numvcpus", "Processors", counts);
    row_add(form, "guestOS", "Guest system", NULL);
    const char *const *values;
    for (unsigned i = 0; dialect_key(i, &values); i++)
        for (size_t j = 0; j < G_N_ELEMENTS(labels); j++)
            if (!strcmp(labels[j].key, dialect_key(i, &values)))
                row_add(form, labels[j].key, labels[j].label, values);
    rows_offer(form);
    form->is_changed = form->removed != NULL;
    return g_steal_pointer(&form);
}

void edit_form_free(EditForm *form)
{
    if (!form)
        return;
    vmx_free(form->file);
    g_array_free(form->rows, TRUE);
    g_free(form->removed);
    g_free(form);
}

EditRow *edit_form_row(const EditForm *form, unsigned index) { return &g_array_index(form->rows, EditRow, index); }

/* The place of the file's value among a row's; -1: it is none of them. */
static int value_index(const EditForm *form, const EditRow *row)
{
    const char *value = vmx_get(form->file, row->key);
    Dialect dialect;
    if (!value)
        return 0;
    if (!strcmp(row->key, "config.dialect") && dialect_from_name(value, &dialect, NULL))
        value = dialect_name(dialect); /* one of its other names */
    for (int i = 0; row->values[i]; i++)
        if (!g_ascii_strcasecmp(row->values[i], value))
            return i;
    return -1;
}

const char *edit_form_value(const EditForm *form, unsigned index)
{
    const EditRow *row = edit_form_row(form, index);
    const char *value = vmx_get(form->file, row->key);
    int i = row->values ? value_index(form, row) : -1;
    return i >= 0 && !value ? row->values[i] : value ? value : "";
}

static void value_set(EditForm *form, const EditRow *row, const char *value)
{
    if (value)
        vmx_set(form->file, row->key, value, NULL);
    else
        vmx_remove(form->file, row->key);
    form->is_changed = true;
    rows_offer(form);
}

void edit_form_step(EditForm *form, unsigned index, int step)
{
    const EditRow *row = edit_form_row(form, index);
    if (!row->values)
        return;
    int count = (int)g_strv_length((char **)row->values), i = value_index(form, row);
    i = i < 0 ? 0 : (i + step + count) % count;
    value_set(form, row, i == 0 && !row->was_set ? NULL : row->values[i]);
}

void edit_form_type(EditForm *form, unsigned index, const char *text)
{
    const EditRow *row = edit_form_row(form, index);
    if (!row->values && strcmp(text, edit_form_value(form, index)) != 0)
        value_set(form, row, *text ? text : NULL);
}

const char *edit_form_host(const EditForm *form) { return form->host ? plan_host_name(form->host - 1) : "this"; }

void edit_form_step_host(EditForm *form, int step)
{
    unsigned count = 1;
    while (plan_host_name(count - 1))
        count++;
    form->host = (form->host + count + (unsigned)step) % count;
}

char *edit_form_outcome(const EditForm *form, bool *out_is_fine)
{
    g_autoptr(Config) config = config_new();
    g_autoptr(GError) error = NULL;
    const HostFacts *host = NULL;
    g_autoptr(Plan) plan = NULL;
    *out_is_fine = vmx_apply(form->file, config, &error);
    if (*out_is_fine)
        plan = command_plan_of(config, form->host ? edit_form_host(form) : NULL, &host, &error);
    return plan ? plan_text(plan, host) : g_strdup(error->message);
}
