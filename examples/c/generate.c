/* Answers the sentences that are typed, one a line, in one conversation, by a model of the Llama family:
 *
 *     cc generate.c $(pkg-config --cflags --libs seedcorn) -o generate
 *     echo "Three quiet films by the sea, please." | ./generate ~/.cache/seedcorn/smollm2-135m-instruct [ADAPTER]
 */
#include <seedcorn/seedcorn.h>
#include <stdio.h>
#include <string.h>

enum { TURNS = 64 };

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: generate MODEL [ADAPTER] < SENTENCES\n");
        return SC_USAGE;
    }
    sc_generate_options options = sc_generate_default();
    options.model = argv[1];
    options.adapter = argv[2]; /* NULL: none */
    options.max_tokens = 128;
    options.repetition_penalty = 1.1;

    sc_generator *generator = NULL;
    sc_status status = sc_generator_open(&options, &generator);
    sc_message said[2 * TURNS];
    sc_reply replies[TURNS];
    static char lines[TURNS][4096];
    size_t n = 0;
    while (status == SC_OK && n < TURNS && fgets(lines[n], sizeof lines[n], stdin)) {
        lines[n][strcspn(lines[n], "\n")] = '\0';
        said[2 * n] = (sc_message){"user", lines[n]};
        status = sc_generator_reply(generator, &(sc_conversation){said, 2 * n + 1}, 1, &replies[n]);
        if (status != SC_OK)
            break;
        printf("%s\n", replies[n].text);
        said[2 * n + 1] = (sc_message){"assistant", replies[n].text};
        n++;
    }
    if (status != SC_OK)
        fprintf(stderr, "generate: %s\n", sc_last_error());
    sc_replies_free(replies, n);
    sc_generator_close(generator);
    return status;
}
