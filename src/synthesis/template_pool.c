/* The built-in style templates, written for Seedcorn. Stories: films, and whatever is told. Neutral:
 * any shop. `slots` and `n_turns` are filled in when the pool is opened. */
#include "synthesis/templates.h"

#define T(id, style, text)                                                                                   \
    {                                                                                                        \
        id, style, text, false, 0, 0                                                                         \
    }
#define TARGET(id, style, text)                                                                              \
    {                                                                                                        \
        id, style, text, true, 0, 0                                                                          \
    }

const template_fragment template_fragments_stories[] = {
    {"opening",
     "[Rainy Sunday|Quiet Friday night|Long weekend ahead|Home alone tonight|Finally a free evening|Day off "
     "tomorrow|"
     "The kids are asleep|Snowed in today|Stuck at home with a cold|Train ride tomorrow|First evening off in "
     "weeks|"
     "Exams are over|Date night on Saturday|My brother is visiting|We have a new projector|Lazy afternoon|"
     "Nine hours on a plane next week|My roommates are out|It is storming outside|Just moved into a new flat|"
     "Movie club is at my place this time|My parents are staying over|I cannot sleep lately|Night shift is "
     "done]"
     "[ and there is nothing on my list.| and I have no idea what to watch.| and the couch is calling.| and "
     "I want a good pick.|"
     ", popcorn is ready.|, so I need a plan.| and I have scrolled long enough.|, help me out.| and my "
     "watchlist is empty.|"
     ", what should I put on?| and I refuse to rewatch the same thing.|, so I have two hours to fill.]"},
    {"want", "[I'm after|I'm looking for|I'd love|I want|I could use|I'm in the mood for|I'm hoping to "
             "find|I feel like|"
             "I've been craving|I'm hunting for|I really want|What I need is|Ideally|I'd be happy with|I'm "
             "trying to find|"
             "I wouldn't mind]"},
    {"canyou", "[Can you recommend|Could you suggest|Can anyone recommend|Could someone point me to|Do you "
               "know|Can you think of|"
               "Would you recommend|Could you name|Can somebody suggest|Do you happen to know|Would you know "
               "of|Would anyone know]"},
    {"closing",
     "[Any ideas?|What would you suggest?|What should I watch?|Thanks!|Thanks in advance.|Old or new, I "
     "don't mind.|"
     "Subtitles are fine.|What comes to mind?|I'm open to anything.|Which ones should I try first?|"
     "I don't care how old it is.|Lesser known ones are welcome.|What do you think?|Hit me with your best "
     "picks.|"
     "A handful of titles would be great.|I'll watch it tonight.|Where should I start?]"},
    {"sys_hello",
     "[Hi there!|Hello!|Hey!|Good evening!|Hi, welcome!|Hello, nice to meet you.|Hey, how are you?|Hi, how "
     "is it going?|"
     "Welcome back!|Good afternoon!|Hello, I hope you are well.|Hey there, good to see you.|Hi, thanks for "
     "stopping by.|"
     "Good morning!|Hi, I can help you find {domains}.|Hello, I'm here to help.|Hey, let's find you "
     "{a_domain}.|"
     "Hi, nice evening, isn't it?|Hello friend!|Hi, happy to chat.] "
     "[What kind of {domains} do you like?|What are you in the mood for today?|What do you feel like "
     "watching?|"
     "Which {domains} do you usually enjoy?|What can I find for you?|Do you have a favorite genre?|"
     "Tell me what you like to watch.|What have you enjoyed lately?|Looking for something to watch?|"
     "Are you looking for {a_domain}?|So, what do you like to watch?|Any {domain} you enjoyed recently?|"
     "Which genres are you into?|What was the last {domain} you loved?|How would you describe your taste?|"
     "Is there a {domain} you could watch again and again?|Do you know what you want to see?|"
     "What sort of {domain} would make your day?|Are you a {domain} fan?|Can I recommend something?]"},
    {"sys_more",
     "[Sure!|Of course.|Happy to help.|Good choice.|Nice!|Great, I can help with that.|I like that "
     "too.|Okay!] "
     "[What do you usually look for?|What matters most to you?|Anything special it should have?|"
     "Should it be light or serious?|What makes a {domain} great for you?|Can you tell me a bit more?|"
     "What kind of mood are you going for?]"},
    {NULL, NULL},
};

const style_template template_pool_stories[] = {
    /* One message. */
    T("s01", "plain", "{opening} {want} {a_mood} {genre_one} with {phrase1}. {closing}"),
    T("s02", "plain", "{canyou} [any|some] {mood} {genres} with {phrase1} and {phrase2}? {closing}"),
    T("s03", "plain", "{want} {a_genre} about {theme}, [preferably|ideally|hopefully] {mood}. {closing}"),
    T("s04", "plain",
      "[What are some|Which are the best|Any good|Name some] {mood} and {mood2} {genres}? "
      "[I care a lot about|I mostly watch for|I have a soft spot for|I never get tired of] {phrase1}. "
      "{closing}"),
    T("s05", "plain",
      "{opening} {canyou} {a_mood} {domain} about {theme}? [It should have|I'd like it to have|"
      "Bonus points for] {phrase1}."),
    T("s06", "plain",
      "[Looking for|Searching for|In need of|Hunting for] {a_mood} {genre_one} "
      "[that isn't afraid to be|that is also|that manages to be|that can also be] {mood2}. {closing}"),
    T("s07", "plain",
      "{want} something {mood} and {mood2}, [maybe|perhaps|possibly] {a_genre}. "
      "[{phrase1} would be a plus.|With {phrase1}, if possible.|I love it when there is {phrase1}.] "
      "{closing}"),
    T("s08", "quote",
      "[A friend told me about {a_domain} and said|Someone at work described {a_domain} with the words|"
      "My sister summed up her favorite {domain} as|A guy at the bar raved about {a_domain} and said] "
      "\"{quote}\". [I want exactly that feeling in|That is what I'm after in|I'd love to say the same "
      "about] {a_genre}. "
      "{closing}"),
    T("s09", "quote",
      "{opening} [I read a line about some {genre_one}|Somebody wrote about {a_genre}|"
      "I overheard someone say of {a_genre}]: \"{quote}\". {canyou} [anything|something] like that?"),
    T("s10", "decade",
      "{canyou} {a_mood} {genre_one} from {decade}? [I like|I enjoy|I'm drawn to] {phrase1}. {closing}"),
    T("s11", "decade",
      "[I've been working my way through|I'm slowly discovering|I can't get enough of] {genres} from "
      "{decade}. "
      "[What|Which ones] would you pick for someone who likes [something {mood}|{mood} stories]? {closing}"),
    T("s12", "person",
      "[I've been on a {person} kick lately|I recently got into {person}|I'm a big fan of {person}|"
      "I'd watch anything with {person} involved]. [What else is out there|What would you recommend|"
      "Which ones are worth it] [if I want|when I'm after|for] something {mood}?"),
    T("s13", "person",
      "{opening} {want} something {mood} [in the spirit of|along the lines of|close to] what {person} does, "
      "with {phrase1}. {closing}"),
    T("s14", "group",
      "[We are four friends|It's the two of us|My parents and I|A group of us] "
      "[and we can't agree|and everyone wants something else|and nobody wants to choose]. "
      "[One wants|Half of us want] {a_genre}, [the other|the rest] something {mood}. "
      "[What works for everyone?|What would please all of us?] {phrase1} [would help|would win them over]."),
    T("s15", "mixed",
      "[Is there anything|Are there {domains}|Do you know something] between {genres} and {genres2}? "
      "{want} something {mood} with {phrase1}. {closing}"),
    T("s16", "mixed",
      "{want} {a_genre} that is also {a_genre2}. [It should feel|Make it|It can be] {mood}. {closing}"),
    T("s17", "plain",
      "[Please recommend|Recommend me|Give me|Suggest] [a few|some|a couple of] {genres} "
      "[where I can count on|that have|known for] {phrase1} and {phrase2}. {closing}"),
    T("s18", "casual",
      "[any|some|got any|know any] {mood} {genres} with {phrase1}? [thanks|thx|pls|open to anything]"),
    T("s19", "casual",
      "[hey|hi|hello|yo] [looking for|need|in the mood for|can you find me] {a_mood} {genre_one}"
      "[, something about {theme}| about {theme}] [with {phrase1}|and {phrase1}] [please|thanks|for "
      "tonight|for the weekend]"),
    T("s20", "casual",
      "[bored tonight|cant decide what to watch|its late and im awake|help me pick]... [maybe|perhaps|how "
      "about] "
      "{a_genre}? {mood}, {mood2}, [you know the type|that kind of thing|anything goes]"),
    T("s21", "taste",
      "[I don't usually watch|I rarely go for|I never thought I'd like] {genres}, but "
      "[something {mood}|{phrase1}] [can win me over|could change my mind|might convince me]. {closing}"),
    T("s22", "taste",
      "[For me,|To my mind,|In my book,] {a_domain} [needs|lives from|stands or falls with] {phrase1}, "
      "[and {phrase2} on top|plus {phrase2}]. {canyou} {a_genre} like that?"),
    T("s23", "theme",
      "[I'm fascinated by|I keep coming back to|I love] stories about {theme}. "
      "[What {domains} would you recommend|Which {domains} should I see|What should I watch], "
      "[preferably {mood} ones|if possible {mood}]? {closing}"),
    T("s24", "theme", "{opening} {want} {a_genre} about {theme}, with {phrase1} and {phrase2}. {closing}"),
    T("s25", "short", "[Best|Favorite|Top|Most] {mood} {genres} about {theme}? {closing}"),
    /* Titles the user liked. */
    T("l01", "likes",
      "[I loved|I really liked|I adored|I enjoyed] {likes}. {canyou} [something similar|more like that]"
      "[, preferably {mood}|, ideally {a_genre}]?"),
    T("l02", "likes",
      "[Hi, I am|Hey, I'm|Hello! I'm|I am] looking for {a_domain} like {like1}. "
      "[I like {phrase1}.|I enjoy {mood} {domains}.|Ideally with {phrase1}.]"),
    T("l03", "likes",
      "[Just finished|Just watched|I finally saw|I rewatched] {like1} [last night|yesterday|this weekend|on "
      "Friday] "
      "and [now I want more|I need something in the same vein|it left me wanting more]. "
      "[What|Which {domains}] would you [recommend|suggest] [next|now]?"),
    T("l04", "likes",
      "[My favorites are|Two of my all-time favorites are|I could rewatch] {like1} and {like2}"
      "[.| any day.|, no question.] {want} [another|one more] {mood} {genre_one}. {closing}"),
    T("l05", "likes",
      "{want} {a_genre} [in the vein of|similar to|as good as] {like1}, "
      "[ideally with {phrase1}|just as {mood}|and it should be {mood}]. {closing}"),
    T("l06", "casual",
      "[hi|hey|hello|good morning] [i like|i love|ive seen] {like1} and {like2} [what else|any more like "
      "those|what should i watch next]"
      "[?| please| thanks]"),
    /* Conversations. */
    T("c01", "conversation",
      "User: [Hi!|Hello.|Hey there.|Good evening.] {want} {a_genre}[.| tonight.| for the weekend.]\n"
      "System: {sys_more}\n"
      "User: [I like|I enjoy|I go for] {phrase1} and {phrase2}. [Something {mood}.|It can be {mood}.|]"),
    T("c02", "conversation",
      "System: {sys_hello}\n"
      "User: [I like|I love|I'm into|Mostly] {genres}, [the {mood} kind|especially {mood} ones].\n"
      "System: {sys_more}\n"
      "User: [{phrase1}, I'd say.|I'd say {phrase1}.|For me it's {phrase1}.] {closing}"),
    T("c03", "conversation",
      "System: {sys_hello}\n"
      "User: [I really enjoyed|I liked|I loved|My favorite is] {like1}[.|, it was great.|, have you seen "
      "it?]\n"
      "System: [That's a great one! What did you like about it?|Yes, that one is good. What stayed with you?|"
      "I haven't seen it, what did you like about it?|Good taste! What did you like most?]\n"
      "User: [The whole mood of it.|Everything, really.|How well it was made.|Hard to say, all of it.] "
      "[I'd like something {mood} now.|Now I want something {mood}.|] "
      "[Do you have anything similar?|What else would you recommend?|Can you recommend another one?]"),
    T("c04", "conversation",
      "User: {opening} {canyou} {a_mood} {genre_one}?\n"
      "System: [Have you seen|How about|What about|Do you know] {like1}?\n"
      "User: [Yes, I have seen that one, it was great.|I loved that one!|Seen it, really liked it.|"
      "Yes! One of my favorites.] [Anything else with {phrase1}?|Something similar?|Anything else like it?|"
      "What else is there?]"),
    T("c05", "conversation",
      "System: {sys_hello}\n"
      "User: [I'm not sure yet.|Hard to say.|Hm, good question.|I watch a bit of everything.]\n"
      "System: [Let's start with a genre.|Any genre you prefer?|What was the last {domain} you liked?|"
      "Do you prefer old or new ones?]\n"
      "User: [{a_genre}, maybe about {theme}.|Probably {a_genre} about {theme}.|I'd go for {a_genre}, "
      "something about {theme}.] [With {phrase1}.|It should be {mood}.]"),
    T("c06", "conversation",
      "User: [Hi!|Hello!|Hey!|Good evening!|Hi there.] {opening}\n"
      "System: [Alright! What {domains} do you like?|Let me help. Looking for {a_domain}?|"
      "I see! What kind of {domain} would you like?|Can I recommend {a_domain}?]\n"
      "User: [Yes please, I like|I'm into|I'd love to see|Yes, I want] {mood} {genres}[.| with {phrase1}.| "
      "about {theme}.]"),
    T("c07", "conversation",
      "User: {want} [{a_domain}|something] about {theme}.\n"
      "System: [Serious or light?|How should it feel?|Any favorites so far?|"
      "Is there one you already like?]\n"
      "User: [I like it {mood}.|{mood} is fine.|{mood} would be perfect.] "
      "[I loved {like1}.|{like1} was good, for example.|I've already seen {like1}, and liked it.] {closing}"),
    T("c08", "conversation",
      "System: {sys_hello}\n"
      "User: [I like|I'm a fan of|I grew up with] {like1} and {like2}.\n"
      "System: [Great picks!|I love those!|Both are great.|Nice, those are popular.] "
      "[What do you like about them?|Do you want something similar?|Anything you want more of?]\n"
      "User: [Similar, but {mood}.|Something {mood} this time.|I want {phrase1} above all.|Yes, similar, and "
      "{mood} if you can.] "
      "[What do you recommend?|Any suggestions?|Can you suggest one more?]"),
    T("c09", "conversation",
      "User: [Do you have|Have you got|Are there] any [good |]{genres}[ from {decade}| from back in "
      "{decade}]?\n"
      "System: [Quite a few! How should it feel?|Plenty. What mood?|Sure, what are you in the mood for?]\n"
      "User: [{mood} and {mood2}.|Something {mood}, please.|{mood}, with {phrase1}.]\n"
      "System: [Okay, anything else?|Got it. Alone or with others?|Alright. Any favorites?]\n"
      "User: [No, just {phrase1}.|With friends, so {phrase1} would be good.|{like1} is a favorite of mine.] "
      "{closing}"),
    T("c10", "conversation",
      "User: [I'm a fan of|I really like|I admire] {person}.\n"
      "System: [Me too!|Good choice!|A great name.] [What do you want to see?|What kind of {domain} do you "
      "want?|"
      "Which ones have you seen?]\n"
      "User: [{a_mood} one.|Something {mood}.|{a_mood} {genre_one}.] [I've seen {like1} already.|"
      "{like1} was great.|I saw {like1} last week.] {closing}"),
    T("c11", "conversation",
      "System: {sys_hello}\n"
      "User: {want} {a_genre} for [tonight|Saturday|the weekend|two].\n"
      "System: [Do you know|Have you seen|Did you like] {like1}?\n"
      "User: [Yes, that was good|Yes, loved it|I did, great one], [but I want another one|now something "
      "new|more of that]. "
      "[{mood} is good.|With {phrase1}, please.|It should be {mood}.]"),
    T("c12", "conversation",
      "User: {canyou} a [good|really good|nice] {domain}?\n"
      "System: [Of course! Which genre?|Sure, what do you like?|Happy to! What's your taste?]\n"
      "User: [{genres}|I like {genres}|mostly {genres}], [and {genres2}|sometimes {genres2}].\n"
      "System: {sys_more}\n"
      "User: [{phrase1}, and it should be {mood}.|It should be {mood}, with {phrase1}.|"
      "I want something {mood}, and {phrase1} if possible.]"),
    T("c13", "casual",
      "User: [hi|hello|hey there|hello friend|hey|good evening][, |! |... ][i want to see|looking for|got "
      "any|i need|know any|"
      "i feel like] [some |][{mood}|{mood2}] {genres}[| please| for tonight| for the weekend]\n"
      "System: [sure! any favorites?|of course, what have you liked before?|ok! have you got an example?]\n"
      "User: [like|something like|similar to|you know, like] {like1}[| or {like2}]"),
    /* The target named by the user: the answer then leaves it out. */
    TARGET("t01", "target",
           "[I just saw|I finally watched|I can't stop thinking about|I really loved] {title}. "
           "[What should I watch next?|What comes close to it?|What else is like it?] "
           "[I liked how {mood} it was.|I'd love more {genres}.|It should have {phrase1}, too.|{closing}]"),
    TARGET("t02", "target",
           "{canyou} {domains} like {title}? [I enjoyed {phrase1}.|I want something just as {mood}.|"
           "{mood} and {mood2} is what I'm after.]"),
    TARGET("t03", "target",
           "User: [Hi!|Hello.|Hey.] [I'm looking for something like|I want more {domains} like|I need "
           "{a_domain} similar to] {title}.\n"
           "System: [Good one! What did you like about it?|I love it too. What did you enjoy most?|"
           "Great choice! Which part stayed with you?]\n"
           "User: [It was {mood} and {mood2}.|It had {phrase1}.|How {mood} it was.] {closing}"),
};
const size_t template_pool_n_stories = sizeof template_pool_stories / sizeof template_pool_stories[0];

const template_fragment template_fragments_neutral[] = {
    {"opening",
     "[My birthday is coming up|I have a gift card to spend|My old one finally gave up|A friend is moving|"
     "Payday was yesterday|I'm furnishing a new place|My mother asked me for help|I need a present by Friday|"
     "I've been putting this off for months|The holidays are near|My sister has impossible taste|I've "
     "compared for hours|"
     "A colleague is retiring|I'm new to this|The last one I tried was a letdown|I'm treating myself this "
     "month|"
     "My niece turns ten|We are restocking at home|I'm planning ahead for once|I want to replace a few "
     "things]"
     "[ and I have no idea what to get.|, so I could use some advice.| and I want a good pick.|, help me "
     "choose.|"
     " and there is far too much to choose from.|, what would you get?| and I'd rather not guess.|, so I'm "
     "looking around.]"},
    {"want", "[I'm after|I'm looking for|I'd love|I want|I could use|I'm hoping to find|I'm shopping for|I "
             "really want|"
             "What I need is|I'd be happy with|I'm trying to find|I wouldn't mind|I'm in the market for]"},
    {"canyou", "[Can you recommend|Could you suggest|Can anyone recommend|Could someone point me to|Do you "
               "know|Can you think of|"
               "Would you recommend|Could you name|Do you happen to know|Would you know of]"},
    {"closing",
     "[Any ideas?|What would you suggest?|What should I get?|Thanks!|Thanks in advance.|What comes to mind?|"
     "I'm open to anything.|Which ones should I look at first?|Any brand is fine.|What do you think?|"
     "A handful of names would be great.|Where should I start?|What do people like?]"},
    {"sys_hello", "[Hi there!|Hello!|Hey!|Good evening!|Hi, welcome!|Hello, nice to meet you.|Good "
                  "afternoon!|Welcome back!] "
                  "[What are you looking for?|What can I find for you?|What kind of {domain} do you "
                  "need?|How can I help today?|"
                  "Looking for {a_domain}?|What would you like to see?|Is it for you or a gift?|What do you "
                  "have in mind?]"},
    {"sys_more", "[Sure!|Of course.|Happy to help.|Good choice.|Great, I can help with that.|Okay!] "
                 "[What matters most to you?|Anything special it should have?|What do you usually look for?|"
                 "Can you tell me a bit more?|What made the last one good?|Any wishes?]"},
    {NULL, NULL},
};

const style_template template_pool_neutral[] = {
    T("n01", "plain", "{opening} {want} something {mood} [in|from] {genres}. {closing}"),
    T("n02", "plain", "{canyou} {a_mood} {domain} [in|from] {genres}? {closing}"),
    T("n03", "plain", "{want} {a_domain} with {phrase1}, [something|anything] in {genres}. {closing}"),
    T("n04", "plain",
      "{opening} {canyou} {a_domain} with {phrase1}? [I usually look in {genres}.|Something in {genres}.]"),
    T("n05", "plain",
      "{want} something {mood} and {mood2}. [I'd look in {genres}, but I'm open.|Probably in {genres}.] "
      "{closing}"),
    T("n06", "quote",
      "[A friend told me about {a_domain} and said|Someone at work described theirs with the words|"
      "My neighbor said of hers] \"{quote}\". {want} something like that in {genres}. {closing}"),
    T("n07", "quote",
      "{opening} [I read this about {a_domain}|Somebody wrote about theirs]: \"{quote}\". "
      "{canyou} [anything|something] like that in {genres}?"),
    T("n08", "plain",
      "[Please recommend|Recommend me|Suggest] [a few|some|a couple of] {mood} {domains} from {genres}. "
      "[I care about {phrase1}.|{phrase1} would be nice.] {closing}"),
    T("n09", "casual",
      "[any|some|got any|know any] {mood} {domains} in {genres}? [thanks|thx|pls|open to anything]"),
    T("n10", "casual",
      "[hey|hi|hello] [looking for|need|want] something {mood} in {genres} [please|thanks|for a gift|for "
      "home|asap]"),
    T("n11", "taste",
      "[For me,|To my mind,|Honestly,] {a_domain} needs {phrase1}. {canyou} [one|something] like that in "
      "{genres}? {closing}"),
    T("n12", "open", "{opening} {want} something good from {genres}. {closing}"),
    T("n13", "open",
      "{canyou} {a_domain} from {genres} [that people are happy with|that is worth the money|that will last|"
      "you would buy again]? {closing}"),
    T("n14", "open",
      "[I'm browsing|I'm looking around in|I keep going back and forth in] {genres} [and can't decide|"
      "and need a second opinion|and everything looks the same]. {closing}"),
    T("n15", "open",
      "[What are the best|Which are the most popular|What are some well liked|Which are the most trusted] "
      "{domains} in {genres}"
      "[| right now| for a beginner| for a gift| for everyday use]? {closing}"),
    T("n16", "open", "{opening} {canyou} [a present|something nice|a safe choice] from {genres}?"),
    T("n17", "bare", "{opening} {want} {a_mood} {domain}. {closing}"),
    T("n18", "bare",
      "{opening} {canyou} {a_domain} [that people love|you can stand behind|that surprised you|that just "
      "works]? {closing}"),
    T("n19", "likes",
      "[I was very happy with|I really like|I've been using|I bought and loved] {like1}. {canyou} [something "
      "similar|more like that]?"),
    T("n20", "likes",
      "{want} [something|{a_domain}] like {like1}[, only with {phrase1}|, just as {mood}|]. {closing}"),
    T("n21", "likes",
      "[I already own|I have|We use] {like1} and {like2}. [What goes well with those|What should I get next|"
      "What else is as good]?"),
    T("n22", "conversation",
      "User: {want} {a_domain} from {genres}.\nSystem: {sys_more}\n"
      "User: [Something {mood}.|It should be {mood}.|{mood}, I'd say.] [With {phrase1}.|{phrase1} would be "
      "good.]"),
    T("n23", "conversation",
      "System: {sys_hello}\nUser: [Something in {genres}|I'm looking in {genres}|{a_domain} from {genres}]"
      "[, please.|, for me.|, for a friend.]\nSystem: {sys_more}\n"
      "User: [It should be {mood}.|Just something {mood}.|{mood} would be nice.] {closing}"),
    T("n24", "conversation",
      "System: {sys_hello}\nUser: [I'm just looking around in {genres}.|Something from {genres}, I think.]\n"
      "System: [Sure, is it a gift?|Okay, any wishes?|Do you have something in mind?]\n"
      "User: [No, it's for me.|Yes, for a friend.|Not really.] {closing}"),
    T("n25", "conversation",
      "System: {sys_hello}\nUser: [I liked|I was happy with|I've used] {like1}.\n"
      "System: [Good to hear! Something similar?|Nice. Do you want more like it?|What did you like about "
      "it?]\n"
      "User: [Yes, from {genres}.|Yes, something {mood}.|It was {mood}.] {closing}"),
    T("n26", "conversation",
      "User: {opening}\nSystem: [Which department?|Where should we start?|What kind of thing do you want?]\n"
      "User: {genres}, [I think|probably|if possible]. {closing}"),
    T("n28", "bare",
      "{opening} [What do people swear by|What would you pick first|What has a good name|What sells best]"
      "[| these days| around here| at the moment]? {closing}"),
    T("n29", "bare",
      "{want} {a_domain} [for everyday use|as a present|for a friend|for the house|that keeps its promises]"
      "[| and nothing too fancy| and soon| before the weekend]. {closing}"),
    T("n30", "conversation",
      "System: {sys_hello}\nUser: {opening}\nSystem: {sys_more}\n"
      "User: [It should just work.|Something people are happy with.|Nothing special, only good.] {closing}"),
    TARGET(
        "n27", "target",
        "[I love|I've been very happy with|I just bought] {title}. [What else would you get|What is similar|"
        "What goes with it], [something {mood}|in {genres}]?"),
};
const size_t template_pool_n_neutral = sizeof template_pool_neutral / sizeof template_pool_neutral[0];
