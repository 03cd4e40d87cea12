/* entropy: the rows whose distribution over the clusters is the least decided (uncertainty sampling; Settles 2009).
 * A ranking: what is chosen has no say in what comes next. */
#include "select/ranking.h"

sc_status entropy_select(const selection_task *task, selection_pick *picks, int64_t *n_picks)
{
    sc_status status = SC_OK;
    SC_TRY(ranking_select(task, task->entropy, picks, n_picks));
    for (int64_t t = 0; t < *n_picks; t++) {
        picks[t].entropy = task->entropy[picks[t].row];
        picks[t].cluster = task->labels[picks[t].row];
    }
cleanup:
    return status;
}
