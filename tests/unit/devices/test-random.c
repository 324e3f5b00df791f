/* Whatever a guest writes where, the chips neither stop nor hang the monitor: random accesses to a whole board, many seeds. */
#include "random-board.h"

#define NSTEPS 20000
#define NSEEDS 20

START_TEST(test_seed)
{
    RandomBoard board;
    GRand *rand = g_rand_new_with_seed((guint32)_i + 1);
    random_board_build(&board);
    for (unsigned i = 0; i < NSTEPS; i++)
        random_board_step(&board, rand);
    /* Time may pass in one piece too, with everything armed: at 100 µs a period at least, that is bounded. */
    board.nirqs = 0;
    clock_fake_advance(board.script.clock, 1000000000);
    ck_assert_msg(board.nirqs < 200000, "seed %d: %u line changes in a second", _i + 1, board.nirqs);
    g_rand_free(rand);
    random_board_clear(&board);
}
END_TEST

static void nothing(void) {}

int main(void) { return chip_script_main("random", test_seed, NSEEDS, nothing, nothing); }
