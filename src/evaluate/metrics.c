/* Recall, NDCG and MRR. */
#include "evaluate/metrics.h"

#include <math.h>

const int64_t metric_cuts[N_CUTS] = {1, 5, 10, 20};
const char *const metric_names[N_METRICS] = {"recall", "ndcg", "mrr"};

double metric_value(int metric, int64_t position, int64_t cut)
{
    if (position < 0 || position >= cut)
        return 0;
    return metric == METRIC_RECALL ? 1
           : metric == METRIC_NDCG ? 1 / log2((double)position + 2)
                                   : 1 / ((double)position + 1);
}

void metrics_summarise(const int64_t *positions, int64_t n, metric_summary *out)
{
    *out = (metric_summary){.n = n};
    for (int m = 0; m < N_METRICS && n > 0; m++)
        for (int c = 0; c < N_CUTS; c++) {
            double sum = 0, squares = 0;
            for (int64_t i = 0; i < n; i++)
                sum += metric_value(m, positions[i], metric_cuts[c]);
            const double mean = sum / (double)n;
            for (int64_t i = 0; i < n; i++) {
                const double off = metric_value(m, positions[i], metric_cuts[c]) - mean;
                squares += off * off;
            }
            out->mean[m][c] = mean;
            out->se[m][c] = n > 1 ? sqrt(squares / (double)(n - 1) / (double)n) : 0;
        }
}
