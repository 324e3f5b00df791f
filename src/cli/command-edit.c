/* segue edit: the "Processors" page of a .vmx file as a form in the terminal. */
#include "cli/command.h"

#include <curses.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/edit-form.h"
#include "core/error.h"

#define LABEL_COLUMN 2
#define VALUE_COLUMN 28
#define TEXT_MAX 60

typedef struct Editor {
    EditForm *form;
    const char *path;
    unsigned row;        /* the one with the cursor; rows->len: the host that is shown */
    char text[TEXT_MAX]; /* being typed */
    bool is_typing, is_leaving; /* leaving: asked whether to save */
    char *message;
} Editor;

static void message_set(Editor *editor, char *text)
{
    g_free(editor->message);
    editor->message = text;
}

/* --- drawing --- */

/* Draws @text wrapped at the screen's edge.  Returns: the row behind it. */
static int text_draw(int row, int column, const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line && row < LINES - 2; line++) {
        int width = MAX(10, COLS - column - 1);
        const char *at = *line;
        do {
            mvaddnstr(row++, column, at, width);
            at += MIN(strlen(at), (size_t)width);
        } while (*at && row < LINES - 2);
    }
    return row;
}

static void value_draw(int row, const char *value, bool is_chosen, bool is_choice)
{
    mvaddstr(row, VALUE_COLUMN - 2, is_choice ? "< " : "  ");
    if (is_chosen)
        attron(A_REVERSE);
    addstr(*value ? value : "(not set)");
    if (is_chosen)
        attroff(A_REVERSE);
    if (is_choice)
        addstr(" >");
}

static void form_draw(const Editor *editor)
{
    const EditForm *form = editor->form;
    int row = 0;
    bool is_fine;
    g_autofree char *outcome = edit_form_outcome(form, &is_fine);
    erase();
    attron(A_BOLD);
    mvprintw(row, LABEL_COLUMN, "Processors - %s%s", editor->path, form->is_changed ? " (changed)" : "");
    attroff(A_BOLD);
    row += 2;
    for (guint i = 0; i < form->rows->len; i++) {
        const EditRow *field = edit_form_row(form, i);
        if (!field->is_offered || row >= LINES - 3)
            continue;
        bool is_chosen = i == editor->row;
        mvaddstr(row, LABEL_COLUMN, field->label);
        value_draw(row++, is_chosen && editor->is_typing ? editor->text : edit_form_value(form, i), is_chosen, field->values != NULL);
    }
    row++;
    mvaddstr(row, LABEL_COLUMN, "Shown for host");
    value_draw(row, edit_form_host(form), editor->row == form->rows->len, true);
    row += 2;
    if (!is_fine)
        attron(A_BOLD);
    row = text_draw(row, LABEL_COLUMN, outcome);
    attroff(A_BOLD);
    if (form->removed)
        mvprintw(LINES - 3, LABEL_COLUMN, "These rules do not have: %s; taken out of the file", form->removed);
    if (editor->message)
        mvaddnstr(LINES - 2, LABEL_COLUMN, editor->message, MAX(0, COLS - LABEL_COLUMN - 1));
    attron(A_REVERSE);
    mvaddstr(LINES - 1, 0, editor->is_leaving ? " save the changes?  y yes  n no  Esc go on "
                           : editor->is_typing ? " Enter done  Esc as it was "
                                               : " up/down row  left/right change  Enter type  s save  q leave ");
    attroff(A_REVERSE);
    refresh();
}

/* --- keys --- */

static bool form_save(Editor *editor)
{
    g_autoptr(GError) error = NULL;
    bool is_fine;
    g_autofree char *outcome = edit_form_outcome(editor->form, &is_fine);
    if (!is_fine) {
        message_set(editor, g_strdup("not saved: the settings contradict each other, or a value is wrong; see above"));
        return false;
    }
    if (!command_vmx_save(editor->form->file, editor->path, &error)) {
        message_set(editor, g_strdup(error->message));
        return false;
    }
    editor->form->is_changed = false;
    message_set(editor, g_strdup("saved"));
    return true;
}

static void row_move(Editor *editor, int step)
{
    unsigned count = editor->form->rows->len + 1;
    do
        editor->row = (editor->row + count + (unsigned)step) % count;
    while (editor->row < editor->form->rows->len && !edit_form_row(editor->form, editor->row)->is_offered);
}

static void value_step(Editor *editor, int step)
{
    if (editor->row == editor->form->rows->len)
        edit_form_step_host(editor->form, step);
    else
        edit_form_step(editor->form, editor->row, step);
}

static void typing_take(Editor *editor, int key)
{
    size_t length = strlen(editor->text);
    if (key == '\n' || key == KEY_ENTER) {
        edit_form_type(editor->form, editor->row, editor->text);
        editor->is_typing = false;
    } else if (key == 27) {
        editor->is_typing = false;
    } else if ((key == KEY_BACKSPACE || key == 127 || key == 8) && length) {
        editor->text[length - 1] = 0;
    } else if (key >= 32 && key < 127 && length < TEXT_MAX - 1) {
        editor->text[length] = (char)key;
        editor->text[length + 1] = 0;
    }
}

static void typing_start(Editor *editor)
{
    if (editor->row == editor->form->rows->len || edit_form_row(editor->form, editor->row)->values) {
        value_step(editor, 1);
        return;
    }
    g_strlcpy(editor->text, edit_form_value(editor->form, editor->row), sizeof editor->text);
    editor->is_typing = true;
}

/* Returns: false to leave. */
static bool key_take(Editor *editor, int key)
{
    if (editor->is_typing) {
        typing_take(editor, key);
        return true;
    }
    if (editor->is_leaving) {
        editor->is_leaving = false;
        return key != 'n' && !(key == 'y' && form_save(editor));
    }
    message_set(editor, NULL);
    switch (key) {
    case KEY_UP:
        row_move(editor, -1);
        return true;
    case KEY_DOWN:
    case '\t':
        row_move(editor, 1);
        return true;
    case KEY_LEFT:
        value_step(editor, -1);
        return true;
    case KEY_RIGHT:
    case ' ':
        value_step(editor, 1);
        return true;
    case '\n':
    case KEY_ENTER:
        typing_start(editor);
        return true;
    case 's':
    case KEY_F(2):
        form_save(editor);
        return true;
    case 'q':
    case 27:
    case 3: /* Ctrl-C */
        editor->is_leaving = editor->form->is_changed;
        return editor->is_leaving;
    default:
        return true;
    }
}

static int edit_run(int argc, const char *const *argv, int (*guest_run)(Config *config), GError **error)
{
    if (argc != 1 || argv[0][0] == '-')
        return command_usage(error, "edit: one .vmx file is needed; see segue edit --help");
    g_autoptr(EditForm) form = edit_form_new(argv[0], error);
    if (!form)
        return 0;
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return command_usage(error, "edit: this is no terminal; scripts use: segue set %s key=value", argv[0]);
    setlocale(LC_CTYPE, "");
    set_escdelay(50);
    SCREEN *screen = newterm(NULL, stdout, stdin);
    if (!screen)
        return command_usage(error, "edit: the terminal is unknown: set TERM, or use segue set %s key=value", argv[0]);
    raw();
    noecho();
    keypad(stdscr, TRUE);
    curs_set(0);
    Editor editor = { .form = form, .path = argv[0] };
    int key;
    do {
        form_draw(&editor);
        key = getch();
    } while (key != ERR && key_take(&editor, key));
    endwin();
    delscreen(screen);
    g_free(editor.message);
    return 0;
}

const Command command_edit = {
    "edit", "guest.vmx", "change a .vmx file's processor settings in a form", edit_run,
    "Shows, while the settings change, which mode a host would use for the guest and why. Writes the changed keys only; comments and\n"
    "the order of the file stay. Scripts use segue set.\n",
};
