/* nll: the rows that surprise the student most: the mean negative log-likelihood of a review's tokens under the model
 * that is to be trained (as in Coleman et al. 2020, a proxy's uncertainty). A ranking, like entropy. */
#include "select/ranking.h"

sc_status nll_select(const selection_task *task, selection_pick *picks, int64_t *n_picks)
{
    return ranking_select(task, task->surprise, picks, n_picks);
}
