/* Recall, NDCG and MRR at 1, 5, 10 and 20, one target a row (He et al. 2023; reference: 2.7). */
#ifndef SC_EVALUATE_METRICS_H
#define SC_EVALUATE_METRICS_H

#include <stddef.h>
#include <stdint.h>

enum { N_CUTS = 4, N_METRICS = 3 };
enum { METRIC_RECALL = 0, METRIC_NDCG = 1, METRIC_MRR = 2 };
extern const int64_t metric_cuts[N_CUTS];         /* 1, 5, 10, 20 */
extern const char *const metric_names[N_METRICS]; /* "recall", "ndcg", "mrr" */

/* Of a target at `position` (0-based, the first occurrence; -1: absent): recall 1 inside of the cut,
 * NDCG 1 / log2(position + 2), MRR 1 / (position + 1); 0 outside. */
double metric_value(int metric, int64_t position, int64_t cut);

typedef struct metric_summary {
    int64_t n;
    double mean[N_METRICS][N_CUTS];
    double se[N_METRICS][N_CUTS]; /* sample standard deviation (n - 1) over sqrt n; 0 below two rows */
} metric_summary;
void metrics_summarise(const int64_t *positions, int64_t n, metric_summary *out);

#endif
