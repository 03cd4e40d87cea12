/* The paper (3.3) gives the teacher an item's metadata, three of its reviews and five style templates
 * and asks for a query; its wording was not published, so this one is ours. */
#include "synthesis/prompts.h"

const char *const prompt_query =
    "You write requests that people send to a {domain} recommender.\n"
    "\n"
    "Here is a {domain} and what people say about it. It is for your eyes only.\n"
    "{item}\n"
    "\n"
    "Reviews:\n"
    "{reviews}\n"
    "\n"
    "Here are five requests that show how people ask:\n"
    "{examples}\n"
    "\n"
    "Write one new request by a person who would love this {domain}. Follow the manner and the form of "
    "example {number}: "
    "if it is a conversation, write a conversation with lines that start with \"User: \" and \"System: \" "
    "and end with the "
    "user. Draw on what the reviews praise, in words of your own. Do not name the {domain} itself, and do "
    "not copy "
    "sentences from the reviews. Reply with the request alone, without quotation marks or explanations.";
