// Phrases: what is taken from a review, and what never is.
#include <algorithm>

#include "synthesis/support.h"

extern "C" {
#include "synthesis/lexicon.h"
#include "synthesis/phrases.h"
}

namespace
{
struct Phrases {
    phrase_set set = {};
    Phrases(const std::string &text, const std::string &title = "Some Film", bool stories = true,
            const std::string &description = "")
    {
        item subject = {};
        subject.title = const_cast<char *>(title.c_str());
        subject.description = const_cast<char *>(description.c_str());
        review r = {};
        r.text = const_cast<char *>(text.c_str());
        r.title = const_cast<char *>("");
        const review *list[] = {&r};
        EXPECT_EQ(phrases_collect(&subject, list, 1, stories, &set), SC_OK) << sc_last_error();
    }
    ~Phrases()
    {
        phrases_free(&set);
    }
    bool praise(const std::string &p) const
    {
        return std::find(set.praise, set.praise + set.n_praise, p) != set.praise + set.n_praise;
    }
    bool mood(const std::string &p) const
    {
        return std::any_of(set.moods, set.moods + set.n_moods, [&](const char *m) { return p == m; });
    }
};

TEST(Phrases, FindsPraiseWithItsArticle)
{
    Phrases p("A truly gripping story. Superb supporting cast! The soundtrack was amazing, and an eerie "
              "atmosphere. "
              "Great special effects.");
    EXPECT_TRUE(p.praise("a truly gripping story"));
    EXPECT_TRUE(p.praise("a superb supporting cast"));
    EXPECT_TRUE(p.praise("an amazing soundtrack"));
    EXPECT_TRUE(p.praise("an eerie atmosphere"));
    EXPECT_TRUE(p.praise("great special effects"));
    EXPECT_TRUE(p.mood("gripping"));
    EXPECT_TRUE(p.mood("eerie"));
}

TEST(Phrases, LeavesOutWhatIsNotMeantAsPraise)
{
    Phrases p("There is no great acting here. Not a gripping story. I wish it had a better, funny script. It "
              "isn't scary. "
              "The acting was good for a B movie. Hardly any clever dialogue.");
    EXPECT_EQ(p.set.n_praise, 0u) << p.set.praise[0];
    EXPECT_FALSE(p.mood("scary"));
    EXPECT_EQ(p.set.n_quotes, 0u);
}

TEST(Phrases, LeavesOutTheTitleNamesAndTheWriter)
{
    Phrases p(
        "The departed soul is a gripping story. My wife is great. I was moved by it and it is beautiful. "
        "The story of Billy Costigan is great. The gripping tale holds you to the end.",
        "The Gripping (2006)");
    for (size_t i = 0; i < p.set.n_praise; i++)
        EXPECT_EQ(std::string(p.set.praise[i]).find("gripping"), std::string::npos);
    for (size_t i = 0; i < p.set.n_quotes; i++) {
        std::string q = p.set.quotes[i];
        EXPECT_EQ(q.find("billy"), std::string::npos) << q;
        EXPECT_EQ(q.find("wife"), std::string::npos) << q;
        EXPECT_EQ(q.find("gripping"), std::string::npos) << q;
    }
    EXPECT_FALSE(p.mood("gripping"));
}

TEST(Phrases, QuotesAreShortWholeClauses)
{
    Phrases p(
        "The whole thing is beautiful from start to finish. It keeps you tense. The film is so good that. "
        "The pace never lets up and the ending is a moving surprise that nobody saw coming at all in that "
        "year.");
    ASSERT_EQ(p.set.n_quotes, 2u);
    EXPECT_STREQ(p.set.quotes[0], "the whole thing is beautiful from start to finish");
    EXPECT_STREQ(p.set.quotes[1], "it keeps you tense");
}

TEST(Phrases, GoodsArePraisedForOtherThings)
{
    Phrases goods("Great quality and a comfortable fit. Very sturdy.", "Chair", false);
    EXPECT_TRUE(goods.praise("great quality"));
    EXPECT_TRUE(goods.praise("a comfortable fit"));
    EXPECT_TRUE(goods.mood("sturdy"));
    Phrases story("Great quality and a comfortable fit. Very sturdy.");
    EXPECT_EQ(story.set.n_praise, 0u);
    EXPECT_FALSE(story.mood("sturdy"));
}

TEST(Phrases, ThemesComeFromThePlotButNotFromTheTitle)
{
    Phrases a("Fine.", "Some Film", true, "A retired hitman seeks revenge.");
    ASSERT_EQ(a.set.n_themes, 2u);
    EXPECT_STREQ(a.set.themes[0], "revenge");
    Phrases b("Fine.", "Revenge", true, "A story of revenge.");
    EXPECT_EQ(b.set.n_themes, 0u);
    Phrases c("It reminded me of revenge.", "Some Film");
    EXPECT_EQ(c.set.n_themes, 0u); // one mention may be a comparison
}

TEST(Phrases, ATitleIsNamedWholeOrNotAtAll)
{
    EXPECT_TRUE(phrases_name_title("I loved the shawshank redemption!", "The Shawshank Redemption"));
    EXPECT_TRUE(phrases_name_title("Shawshank Redemption is great", "The Shawshank Redemption"));
    EXPECT_TRUE(phrases_name_title("have you seen Alien?", "Alien"));
    EXPECT_TRUE(phrases_name_title("more like star wars please", "Star Wars: A New Hope"));
    EXPECT_TRUE(phrases_name_title("we watched It together", "It"));
    EXPECT_FALSE(phrases_name_title("I think it was good", "It"));
    EXPECT_FALSE(phrases_name_title("It was good. It was long.", "It"));
    EXPECT_FALSE(phrases_name_title("something about aliens", "Alien"));
    EXPECT_FALSE(phrases_name_title("the war in the stars", "Star Wars"));
    EXPECT_FALSE(phrases_name_title("", "Alien"));
    EXPECT_FALSE(phrases_name_title("any text", ""));
}

TEST(Phrases, LongestRunCountsWords)
{
    EXPECT_EQ(phrases_longest_run("he said the film IS great, really", "I know: the film is great."), 4u);
    EXPECT_EQ(phrases_longest_run("nothing here", "shared words none"), 0u);
    EXPECT_EQ(phrases_longest_run("", "x"), 0u);
}

TEST(Phrases, SurvivesHostileText)
{
    std::string all;
    for (int i = 1; i < 256; i++)
        all += (char)i;
    std::string many;
    for (int i = 0; i < 20000; i++)
        many += "great acting ";
    for (const std::string &text :
         {std::string(), all, std::string(5000, '<'), std::string("<br /><br/>"), std::string("\xE2\x80"),
          std::string("\xE2"), std::string("'''---'''"), std::string(100000, 'a'), many,
          std::string("it's \xE2\x80\x99 great \xE2\x80\x94 acting")}) {
        Phrases p(text);
        EXPECT_LE(p.set.n_praise, 1u);
    }
}

TEST(Lexicon, ArticlesFollowTheSound)
{
    for (const char *w : {"eerie", "honest", "uplifting", "intense", "unexpected"})
        EXPECT_STREQ(lexicon_article(w), "an") << w;
    for (const char *w : {"unique", "dark", "useful", "European", "one", ""})
        EXPECT_STREQ(lexicon_article(w), "a") << w;
}
} // namespace
