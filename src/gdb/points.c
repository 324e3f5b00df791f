#include "gdb/points.h"

#define WATCH_MAX_BYTES 4096u

typedef struct Point {
    GdbPointKind kind;
    Gva gva;
    uint64_t size;
} Point;

struct GdbPoints {
    GArray *list;    /* Point */
    GArray *breaks;  /* Gva */
    GArray *watches; /* CpuWatch */
};

GdbPoints *gdb_points_new(void)
{
    GdbPoints *points = g_new0(GdbPoints, 1);
    points->list = g_array_new(FALSE, FALSE, sizeof(Point));
    points->breaks = g_array_new(FALSE, FALSE, sizeof(Gva));
    points->watches = g_array_new(FALSE, FALSE, sizeof(CpuWatch));
    return points;
}

void gdb_points_free(GdbPoints *points)
{
    g_array_unref(points->list);
    g_array_unref(points->breaks);
    g_array_unref(points->watches);
    g_free(points);
}

/* A breakpoint's size is its instruction's kind, which x86 does not have. */
static bool is_same(const Point *point, GdbPointKind kind, Gva gva, uint64_t size)
{
    return point->kind == kind && point->gva == gva && (kind < GDB_POINT_WRITE || point->size == size);
}

bool gdb_points_add(GdbPoints *points, GdbPointKind kind, Gva gva, uint64_t size)
{
    if (kind >= GDB_POINT_WRITE && (size == 0 || size > WATCH_MAX_BYTES || gva + size < gva))
        return false;
    for (guint i = 0; i < points->list->len; i++)
        if (is_same(&g_array_index(points->list, Point, i), kind, gva, size))
            return true;
    if (points->list->len >= GDB_MAX_POINTS)
        return false;
    Point point = { kind, gva, size };
    g_array_append_val(points->list, point);
    return true;
}

void gdb_points_remove(GdbPoints *points, GdbPointKind kind, Gva gva, uint64_t size)
{
    for (guint i = 0; i < points->list->len; i++)
        if (is_same(&g_array_index(points->list, Point, i), kind, gva, size)) {
            g_array_remove_index(points->list, i);
            return;
        }
}

void gdb_points_clear(GdbPoints *points) { g_array_set_size(points->list, 0); }

CpuDebug gdb_points_debug(GdbPoints *points)
{
    g_array_set_size(points->breaks, 0);
    g_array_set_size(points->watches, 0);
    for (guint i = 0; i < points->list->len; i++) {
        const Point *point = &g_array_index(points->list, Point, i);
        CpuWatch watch = { .start = point->gva, .size = point->size, .on_read = point->kind != GDB_POINT_WRITE, .on_write = point->kind != GDB_POINT_READ };
        if (point->kind < GDB_POINT_WRITE)
            g_array_append_val(points->breaks, point->gva);
        else
            g_array_append_val(points->watches, watch);
    }
    return (CpuDebug){ .breaks = (const Gva *)(void *)points->breaks->data, .nbreaks = points->breaks->len,
                       .watches = (const CpuWatch *)(void *)points->watches->data, .nwatches = points->watches->len };
}

GdbPointKind gdb_points_find(const GdbPoints *points, Gva gva, bool is_watch)
{
    for (guint i = 0; i < points->list->len; i++) {
        const Point *point = &g_array_index(points->list, Point, i);
        if (point->gva == gva && (point->kind >= GDB_POINT_WRITE) == is_watch)
            return point->kind;
    }
    return is_watch ? GDB_POINT_WRITE : GDB_POINT_SOFT;
}
