/* What plan.c and plan_links.c share: stages, and the links between them. */
#ifndef SC_PIPELINE_PLAN_LINKS_H
#define SC_PIPELINE_PLAN_LINKS_H

#include "pipeline/plan.h"

sc_status stage_add(plan *p, const verb *v, const char *section, const char *where, stage **out);
void stage_free(stage *s);

/* If `text` names a stage before s that may feed the setting, links it. */
sc_status link_by_name(plan *p, stage *s, const setting *to, const char *text, const char *where,
                       bool *linked);
/* SC_USAGE for a word that is no file and almost a stage's name. */
sc_status link_check_word(plan *p, const stage *s, const setting *to, const char *text, const char *where);
/* Links the settings of stage i that the file leaves out and that only one stage can feed. */
sc_status link_defaults(plan *p, size_t i);
/* One eval entry without `replies` becomes one eval of each recommend entry. */
sc_status plan_expand_eval(plan *p);
/* The key, the folder and the product of stage i; SC_USAGE for a key that is taken. */
sc_status plan_choose_places(plan *p, size_t i, const char *run_dir);

#endif
