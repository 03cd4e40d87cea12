/* The endpoint teacher's prompt for a request. The one for the answer is He et al.'s
 * (data/dialogue.h). Slots: {domain} {domains} {item} {reviews} {examples} {number}. */
#ifndef SC_SYNTHESIS_PROMPTS_H
#define SC_SYNTHESIS_PROMPTS_H

extern const char *const prompt_query;

#endif
