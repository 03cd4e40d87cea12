// The table of flags: it names every member of every options struct, and every value of it can be set and read back.
#include <algorithm>
#include <regex>
#include <set>

#include "train/support.h"

extern "C" {
#include "pipeline/settings.h"
}

namespace
{

struct Member {
    std::string name;
    setting_type type;
};

// The members of one options struct, read from the public headers; struct_size and common are every verb's own.
std::vector<Member> members_of(const std::string &struct_name)
{
    std::vector<Member> members;
    for (const auto &entry : std::filesystem::directory_iterator(SC_SOURCE_DIR "/include/seedcorn")) {
        const std::string text =
            std::regex_replace(read_text(entry.path().string()), std::regex("/\\*[^]*?\\*/"), "");
        const size_t begin = text.find("typedef struct " + struct_name + " {"), end = text.find('}', begin);
        if (begin == std::string::npos)
            continue;
        const std::string body = text.substr(begin, end - begin);
        const std::regex line(
            "(const char \\*const \\*|const char \\*|int64_t |double |bool )([a-z0-9_, ]+);");
        for (std::sregex_iterator i(body.begin(), body.end(), line), last; i != last; ++i) {
            const std::string type = (*i)[1], names = (*i)[2];
            const setting_type kind = type == "const char *const *" ? SETTING_LIST
                                      : type == "const char *"      ? SETTING_STRING
                                      : type == "int64_t "          ? SETTING_INT
                                      : type == "double "           ? SETTING_REAL
                                                                    : SETTING_BOOL;
            const std::regex word("[a-z0-9_]+");
            for (std::sregex_iterator w(names.begin(), names.end(), word); w != last; ++w)
                members.push_back({w->str(), kind});
        }
    }
    return members;
}

std::string flag_of(std::string member)
{
    std::replace(member.begin(), member.end(), '_', '-');
    return member;
}

TEST(Settings, EveryMemberOfEveryOptionsStructIsAFlag)
{
    for (size_t i = 0; i < n_verbs; i++) {
        const verb &v = *verbs[i];
        if (std::string(v.name) == "doctor")
            continue;
        std::string name = std::string("sc_") + v.name + "_options";
        std::replace(name.begin(), name.end(), ' ', '_');
        const auto members = members_of(name);
        ASSERT_FALSE(members.empty()) << name;
        std::set<std::string> flags;
        for (size_t k = 0; k < v.n_settings; k++)
            flags.insert(v.settings[k].name);
        EXPECT_EQ(flags.size(), v.n_settings) << v.name << ": a flag stands twice";
        EXPECT_EQ(flags.size(), members.size()) << v.name;
        for (const auto &m : members) {
            options o;
            bool in_common = false;
            ASSERT_OK(options_create(&v, &o));
            const setting *s = options_find(&o, flag_of(m.name).c_str(), &in_common);
            ASSERT_NE(s, nullptr) << v.name << " lacks --" << flag_of(m.name);
            EXPECT_FALSE(in_common);
            EXPECT_EQ(s->type, m.type) << v.name << " --" << s->name;
            options_free(&o);
        }
    }
    const auto common = members_of("sc_common");
    EXPECT_EQ(common.size(), n_common_settings);
}

std::string a_value(const setting &s, int number)
{
    if (s.choices != nullptr) {
        const std::string all = s.choices;
        return all.substr(all.rfind('|') == std::string::npos ? 0 : all.rfind('|') + 1);
    }
    switch (s.type) {
    case SETTING_INT:
        return std::to_string(1000 + number);
    case SETTING_REAL:
        return std::to_string(number) + ".25";
    case SETTING_BOOL:
        return "true";
    default:
        return "word-" + std::to_string(number);
    }
}

std::string text_of(const json_t *value)
{
    if (json_is_integer(value))
        return std::to_string(json_integer_value(value));
    if (json_is_real(value))
        return std::to_string(static_cast<int>(json_real_value(value))) + ".25";
    if (json_is_boolean(value))
        return json_is_true(value) ? "true" : "false";
    if (json_is_array(value))
        return text_of(json_array_get(value, json_array_size(value) - 1));
    return json_is_string(value) ? json_string_value(value) : "null";
}

TEST(Settings, EveryFlagIsSetAndReadBack)
{
    for (size_t i = 0; i < n_verbs; i++) {
        options o;
        ASSERT_OK(options_create(verbs[i], &o));
        std::vector<const setting *> all;
        for (size_t k = 0; k < verbs[i]->n_settings; k++)
            all.push_back(&verbs[i]->settings[k]);
        for (size_t k = 0; k < n_common_settings; k++)
            all.push_back(&common_settings[k]);
        for (size_t k = 0; k < all.size(); k++) {
            EXPECT_FALSE(options_is_given(&o, all[k]->name));
            EXPECT_OK(options_set(&o, all[k]->name, a_value(*all[k], static_cast<int>(k)).c_str(), "test"));
            EXPECT_TRUE(options_is_given(&o, all[k]->name));
        }
        // Read only now: two flags of one member would have overwritten each other.
        json_t *values = options_json(&o);
        EXPECT_EQ(json_object_size(values), all.size()) << verbs[i]->name;
        for (size_t k = 0; k < all.size(); k++)
            EXPECT_EQ(text_of(json_object_get(values, all[k]->name)), a_value(*all[k], static_cast<int>(k)))
                << verbs[i]->name << " --" << all[k]->name;
        json_decref(values);
        EXPECT_OK(options_check(&o));
        options_free(&o);
    }
}

class TrainOptions : public testing::Test
{
  protected:
    void SetUp() override
    {
        ASSERT_OK(options_create(verb_find("train"), &o));
    }
    void TearDown() override
    {
        options_free(&o);
    }
    void refuses(const char *name, const char *text, const char *said)
    {
        EXPECT_EQ(options_set(&o, name, text, "here:3"), SC_USAGE) << name << " " << text;
        EXPECT_TRUE(mentions(sc_last_error(), said)) << sc_last_error();
        EXPECT_EQ(std::string(sc_last_error()).find("here:3: "), 0u) << sc_last_error();
    }
    options o = {};
};

TEST_F(TrainOptions, NumbersAreWholeFiniteAndInRange)
{
    refuses("epochs", "", "whole number");
    refuses("epochs", "3x", "whole number");
    refuses("epochs", "2.5", "whole number");
    refuses("epochs", "99999999999999999999", "whole number");
    refuses("epochs", "-1", "negative");
    refuses("lr", "fast", "number");
    refuses("lr", "nan", "number");
    refuses("lr", "inf", "number");
    refuses("lr", "1e-3 ", "number");
    refuses("shuffle", "yes", "true or false");
    EXPECT_OK(options_set(&o, "warmup-steps", "-1", "here:3"));
    EXPECT_OK(options_set(&o, "lr", "1e-3", "here:3"));
    EXPECT_DOUBLE_EQ(static_cast<sc_train_options *>(o.values)->lr, 1e-3);
}

TEST_F(TrainOptions, MisspeltNamesAndChoicesAreMended)
{
    refuses("epoch", "3", "did you mean 'epochs'?");
    refuses("batch_sise", "3", "did you mean 'batch-size'?");
    refuses("thread", "3", "did you mean 'threads'?");
    refuses("entirely_else", "3", "--help");
    refuses("schedule", "cosin", "constant|linear|cosine");
    refuses("method", "lor", "lora|full");
    EXPECT_OK(options_set(&o, "batch_size", "7", "here:3")); // YAML's way to write it
    EXPECT_OK(options_set(&o, "init-adapter", "a", "here:3"));
    EXPECT_STREQ(options_string(&o, "init_adapter"), "a");
}

TEST_F(TrainOptions, WhatIsMissingIsNamed)
{
    EXPECT_EQ(options_check(&o), SC_USAGE);
    EXPECT_TRUE(mentions(sc_last_error(), "--model DIR")) << sc_last_error();
    EXPECT_OK(options_set(&o, "model", "m", "x"));
    EXPECT_OK(options_set(&o, "dialogues", "d", "x"));
    EXPECT_EQ(options_check(&o), SC_USAGE);
    EXPECT_TRUE(mentions(sc_last_error(), "--out DIR")) << sc_last_error();
    EXPECT_OK(options_set(&o, "out", "o", "x"));
    EXPECT_OK(options_check(&o));
}

TEST(Settings, AListTakesSeveral)
{
    options o;
    ASSERT_OK(options_create(verb_find("import reviews"), &o));
    for (const char *file : {"a", "b", "c"})
        ASSERT_OK(options_set(&o, "reviews", file, "x"));
    const char *const *list = static_cast<sc_import_reviews_options *>(o.values)->reviews;
    EXPECT_STREQ(list[0], "a");
    EXPECT_STREQ(list[2], "c");
    EXPECT_EQ(list[3], nullptr);
    options_free(&o);
}

} // namespace
