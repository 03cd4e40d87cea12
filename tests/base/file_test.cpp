/* Reading, paths, folders, hashes and the lock. */
#include "support.h"

#include <sched.h>
#include <sys/stat.h>

#include <cstring>

#include "base/log.h"

using File = Folder;

TEST_F(File, MapsAWholeFile)
{
    std::string bytes(100001, 'x');
    bytes[50000] = '\0';
    file_map map;
    ASSERT_EQ(file_map_open(make("a", bytes).c_str(), &map), SC_OK);
    ASSERT_EQ(map.size, bytes.size());
    EXPECT_EQ(memcmp(map.data, bytes.data(), bytes.size()), 0);
    file_map_close(&map);
    EXPECT_EQ(map.data, nullptr);
    file_map_close(&map);
}

TEST_F(File, MapsAnEmptyFile)
{
    file_map map;
    ASSERT_EQ(file_map_open(make("empty", "").c_str(), &map), SC_OK);
    EXPECT_EQ(map.size, 0u);
    ASSERT_NE(map.data, nullptr);
    EXPECT_EQ(map.data[0], 0);
    file_map_close(&map);
}

TEST_F(File, MapRefusesWhatIsNoFile)
{
    file_map map;
    EXPECT_EQ(file_map_open(at("absent").c_str(), &map), SC_BAD_INPUT);
    EXPECT_TRUE(says("absent")) << sc_last_error();
    EXPECT_EQ(map.data, nullptr);
    EXPECT_EQ(file_map_open(folder.c_str(), &map), SC_BAD_INPUT);
    EXPECT_TRUE(says("folder"));
    ASSERT_EQ(mkfifo(at("pipe").c_str(), 0600), 0);
    EXPECT_EQ(file_map_open(at("pipe").c_str(), &map), SC_BAD_INPUT); /* and does not wait */
    EXPECT_TRUE(says("no regular file"));
    EXPECT_EQ(file_map_open(make("x", "").append("/y").c_str(), &map), SC_BAD_INPUT);
}

TEST_F(File, ReadsAllAndReplaces)
{
    strbuf out = {};
    strbuf_puts(&out, "old");
    std::string bytes(200000, 'y');
    ASSERT_EQ(file_read_all(make("a", bytes).c_str(), &out), SC_OK);
    EXPECT_EQ(std::string(out.data, out.len), bytes);
    ASSERT_EQ(file_read_all(make("b", "").c_str(), &out), SC_OK);
    EXPECT_EQ(out.len, 0u);
    EXPECT_EQ(file_read_all(folder.c_str(), &out), SC_BAD_INPUT);
    EXPECT_EQ(file_read_all(at("absent").c_str(), &out), SC_BAD_INPUT);
    strbuf_free(&out);
}

TEST_F(File, Paths)
{
    struct Case {
        const char *folder, *name, *joined;
    };
    for (const Case &c :
         {Case{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"", "b", "b"}, {"a", "/b", "/b"}, {"/", "b", "/b"}}) {
        char *joined = path_join(c.folder, c.name);
        EXPECT_STREQ(joined, c.joined);
        free(joined);
    }
    EXPECT_STREQ(path_base("a/b.c"), "b.c");
    EXPECT_STREQ(path_base("b"), "b");
    EXPECT_STREQ(path_base("a/"), "");
    for (auto [path, dir] :
         {std::pair{"a/b", "a"}, {"b", "."}, {"/b", "/"}, {"a//b", "a"}, {"/a/b/c", "/a/b"}, {"//b", "/"}}) {
        char *found = path_dir(path);
        EXPECT_STREQ(found, dir) << path;
        free(found);
    }
}

TEST_F(File, SizeAndKind)
{
    uint64_t size = 7;
    EXPECT_EQ(file_size(make("a", "12345").c_str(), &size), SC_OK);
    EXPECT_EQ(size, 5u);
    EXPECT_EQ(file_size(at("absent").c_str(), &size), SC_BAD_INPUT);
    EXPECT_EQ(file_size(folder.c_str(), &size), SC_BAD_INPUT);
    EXPECT_TRUE(file_exists(at("a").c_str()));
    EXPECT_FALSE(file_exists(at("absent").c_str()));
    EXPECT_TRUE(file_is_dir(folder.c_str()));
    EXPECT_FALSE(file_is_dir(at("a").c_str()));
}

TEST_F(File, OneFileByTwoNames)
{
    const std::string a = make("a", "x"), b = make("b", "x");
    EXPECT_TRUE(file_same(a.c_str(), a.c_str()));
    EXPECT_TRUE(file_same(a.c_str(), (folder + "/./a").c_str()));
    EXPECT_FALSE(file_same(a.c_str(), b.c_str()));
    ASSERT_EQ(symlink(a.c_str(), at("link").c_str()), 0);
    EXPECT_TRUE(file_same(at("link").c_str(), a.c_str()));
    EXPECT_FALSE(file_same(at("absent").c_str(), at("absent").c_str()));
}

TEST_F(File, MakesFolders)
{
    EXPECT_EQ(file_make_dirs(at("a/b//c/").c_str()), SC_OK) << sc_last_error();
    EXPECT_TRUE(file_is_dir(at("a/b/c").c_str()));
    EXPECT_EQ(file_make_dirs(at("a/b/c").c_str()), SC_OK);
    make("a/file", "x");
    EXPECT_EQ(file_make_dirs(at("a/file").c_str()), SC_IO);
    EXPECT_EQ(file_make_dirs(at("a/file/b").c_str()), SC_IO);
    EXPECT_TRUE(says("a/file")) << sc_last_error();
    EXPECT_EQ(bytes_of(at("a/file")), "x");
    EXPECT_EQ(file_make_dirs(""), SC_IO);
    EXPECT_EQ(file_make_dirs("/proc/seedcorn"), SC_IO);
    EXPECT_EQ(file_make_dirs("/"), SC_OK);
}

TEST_F(File, RemovesATreeButFollowsNoLink)
{
    ASSERT_EQ(file_make_dirs(at("tree/a/b").c_str()), SC_OK);
    make("tree/a/b/file", "x");
    ASSERT_EQ(file_make_dirs(at("outside").c_str()), SC_OK);
    make("outside/kept", "x");
    ASSERT_EQ(symlink(at("outside").c_str(), at("tree/link").c_str()), 0);
    EXPECT_EQ(file_remove_tree(at("tree").c_str()), SC_OK) << sc_last_error();
    EXPECT_FALSE(file_exists(at("tree").c_str()));
    EXPECT_TRUE(file_exists(at("outside/kept").c_str()));
    EXPECT_EQ(file_remove_tree(at("tree").c_str()), SC_OK);
    EXPECT_EQ(file_remove_tree(at("outside/kept").c_str()), SC_OK);
    for (const char *path : {"", "/", ".", "..", "a/..", "a/"})
        EXPECT_EQ(file_remove_tree(path), SC_USAGE) << path;
}

/* FIPS 180-2, appendix B. */
TEST_F(File, Sha256KnownAnswers)
{
    char hex[65];
    sha256_hex("", 0, hex);
    EXPECT_STREQ(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha256_hex("abc", 3, hex);
    EXPECT_STREQ(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    ASSERT_EQ(file_sha256(make("a", std::string(1000000, 'a')).c_str(), hex), SC_OK);
    EXPECT_STREQ(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    ASSERT_EQ(file_sha256(make("empty", "").c_str(), hex), SC_OK);
    EXPECT_STREQ(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(file_sha256(at("absent").c_str(), hex), SC_BAD_INPUT);
    EXPECT_STREQ(hex, "");
    EXPECT_EQ(file_sha256(folder.c_str(), hex), SC_BAD_INPUT);
}

TEST_F(File, HashingALargeFileCanBeStopped)
{
    std::string path = make("large", "");
    ASSERT_EQ(truncate(path.c_str(), 70 << 20), 0);
    char hex[65];
    sc_cancel();
    EXPECT_EQ(file_sha256(path.c_str(), hex), SC_INTERRUPTED);
    EXPECT_EQ(file_sha256(make("small", "x").c_str(), hex), SC_OK);
    sc_cancel_reset();
    EXPECT_EQ(file_sha256(path.c_str(), hex), SC_OK);
}

TEST_F(File, LockIsTakenOnce)
{
    file_lock *lock = nullptr, *second = nullptr;
    ASSERT_EQ(file_lock_take(folder.c_str(), &lock), SC_OK);
    EXPECT_EQ(bytes_of(at(".lock")), std::to_string(getpid()) + "\n");
    EXPECT_EQ(file_lock_take(folder.c_str(), &second), SC_BUSY);
    EXPECT_EQ(second, nullptr);
    file_lock_release(lock);
    EXPECT_TRUE(names_in(folder).empty());
    ASSERT_EQ(file_lock_take(folder.c_str(), &second), SC_OK);
    file_lock_release(second);
    file_lock_release(nullptr);
}

TEST_F(File, LockNamesTheProcessThatHoldsIt)
{
    int ready[2], done[2];
    ASSERT_EQ(pipe(ready), 0);
    ASSERT_EQ(pipe(done), 0);
    pid_t child = fork();
    if (child == 0) {
        file_lock *lock;
        char c = file_lock_take(folder.c_str(), &lock) == SC_OK ? 'y' : 'n';
        ssize_t n = write(ready[1], &c, 1);
        n += read(done[0], &c, 1);
        _exit(n == 2 ? 0 : 1); /* without a release: the kernel lets go of it */
    }
    char c = 0;
    ASSERT_EQ(read(ready[0], &c, 1), 1);
    ASSERT_EQ(c, 'y');
    file_lock *lock = nullptr;
    EXPECT_EQ(file_lock_take(folder.c_str(), &lock), SC_BUSY);
    EXPECT_TRUE(says("process " + std::to_string(child))) << sc_last_error();
    ASSERT_EQ(write(done[1], &c, 1), 1);
    int state;
    ASSERT_EQ(waitpid(child, &state, 0), child);
    /* A dead process holds nothing, though its file is still there. */
    EXPECT_TRUE(file_exists(at(".lock").c_str()));
    ASSERT_EQ(file_lock_take(folder.c_str(), &lock), SC_OK) << sc_last_error();
    EXPECT_EQ(bytes_of(at(".lock")), std::to_string(getpid()) + "\n");
    file_lock_release(lock);
    for (int fd : {ready[0], ready[1], done[0], done[1]})
        close(fd);
}

TEST_F(File, LockNeedsAFolder)
{
    file_lock *lock = nullptr;
    EXPECT_EQ(file_lock_take(at("absent").c_str(), &lock), SC_IO);
    EXPECT_TRUE(says("absent"));
    EXPECT_EQ(file_lock_take("/proc", &lock), SC_IO);
    EXPECT_EQ(lock, nullptr);
}

/* Many processes want it at once, each for a moment: there is never more than one inside. */
TEST_F(File, LockKeepsOthersOut)
{
    std::vector<pid_t> children;
    for (int i = 0; i < 4; i++) {
        pid_t child = fork();
        if (child == 0) {
            for (int taken = 0; taken < 50;) {
                file_lock *lock;
                sc_status status = file_lock_take(folder.c_str(), &lock);
                if (status == SC_BUSY) {
                    sched_yield();
                    continue;
                }
                if (status != SC_OK || mkdir(at("inside").c_str(), 0700) != 0 ||
                    rmdir(at("inside").c_str()) != 0)
                    _exit(1);
                file_lock_release(lock);
                taken++;
            }
            _exit(0);
        }
        children.push_back(child);
    }
    for (pid_t child : children) {
        int state;
        ASSERT_EQ(waitpid(child, &state, 0), child);
        EXPECT_EQ(state, 0);
    }
}
