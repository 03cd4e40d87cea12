/* Style templates: how people ask for a recommendation. A template is a text with {slots} and
 * [alternatives|to choose|from]; lines that start with "User: " or "System: " make it a conversation.
 *
 *     slots of the item    {phrase1} {phrase2} {phrase3} {quote} {mood} {mood2} {a_mood} {genre_one} {genres}
 *                          {a_genre} {genre2_one} {genres2} {a_genre2} {theme} {person} {decade} {title}
 *     slots of the user    {like1} {like2} {likes}: titles the user liked; the answer leaves them out
 *     slots of the domain  {domain} {domains} {a_domain}
 *     fragments            {opening} {want} {canyou} {closing} {sys_hello} {sys_more}
 *
 * A template that names the target itself ({title}) must be marked "mentions_target". */
#ifndef SC_SYNTHESIS_TEMPLATES_H
#define SC_SYNTHESIS_TEMPLATES_H

#include "base/json.h"
#include "base/random.h"

typedef enum template_slot {
    SLOT_PHRASE1,
    SLOT_PHRASE2,
    SLOT_PHRASE3,
    SLOT_QUOTE,
    SLOT_MOOD,
    SLOT_MOOD2,
    SLOT_A_MOOD,
    SLOT_GENRE_ONE,
    SLOT_GENRES,
    SLOT_A_GENRE,
    SLOT_GENRE2_ONE,
    SLOT_GENRES2,
    SLOT_A_GENRE2,
    SLOT_THEME,
    SLOT_PERSON,
    SLOT_DECADE,
    SLOT_TITLE,
    SLOT_LIKE1,
    SLOT_LIKE2,
    SLOT_LIKES,
    SLOT_DOMAIN,
    SLOT_DOMAINS,
    SLOT_A_DOMAIN,
    SLOT_COUNT
} template_slot;

typedef struct style_template {
    const char *id;
    const char *style; /* "plain", "conversation", "likes", "casual" ... */
    const char *text;
    bool mentions_target;
    uint32_t slots; /* bit i: uses slot i */
    size_t n_turns;
} style_template;

typedef struct template_fragment {
    const char *name;
    const char *text;
} template_fragment;

typedef struct template_pool {
    style_template *at;
    size_t n;
    const template_fragment *fragments;
    json_t *file;    /* owns the texts of a pool read from a file, else NULL */
    char sha256[65]; /* of all texts: part of a run's identity */
} template_pool;

/* The built-in pool: `stories` for films and their kin, else the one that fits any domain. */
sc_status templates_builtin(bool stories, template_pool *out);
/* JSONL: {"id","style","text","mentions_target"?}; unknown slots, repeated ids and turns that do not
 * alternate are errors with file:line. */
sc_status templates_read(const char *path, bool stories, template_pool *out);
void templates_free(template_pool *pool);

/* The turns of one dialogue. `user_first` tells who speaks first; they alternate. */
typedef struct template_turns {
    char **at;
    size_t n;
    bool user_first;
} template_turns;
/* `values[slot]`: NULL where the item has none. A template fits if it can be said without those:
 * alternatives that need them are passed over. */
bool templates_fits(const template_pool *pool, const style_template *t, const char *const values[SLOT_COUNT]);
/* For a template that fits; every choice comes from `r`. */
sc_status templates_expand(const template_pool *pool, const style_template *t,
                           const char *const values[SLOT_COUNT], random_stream *r, template_turns *out);
void template_turns_free(template_turns *t);

/* The pools (template_pool.c). */
extern const style_template template_pool_stories[], template_pool_neutral[];
extern const size_t template_pool_n_stories, template_pool_n_neutral;
extern const template_fragment template_fragments_stories[], template_fragments_neutral[];

#endif
