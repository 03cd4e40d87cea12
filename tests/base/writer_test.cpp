#include "support.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstring>
#include <thread>

using Writer = Folder;

TEST_F(Writer, FileAppearsAtCommit)
{
    file_writer *w = nullptr;
    ASSERT_EQ(file_writer_open(at("a").c_str(), &w), SC_OK);
    std::string expected;
    for (int i = 0; i < 100000; i++) {
        std::string part = std::to_string(i) + "\n";
        ASSERT_EQ(file_writer_puts(w, part.c_str()), SC_OK);
        expected += part;
        ASSERT_EQ(file_writer_tell(w), expected.size());
    }
    std::string large(1 << 20, 'L');
    ASSERT_EQ(file_writer_write(w, large.data(), large.size()), SC_OK);
    expected += large;
    EXPECT_FALSE(file_exists(at("a").c_str()));
    auto names = names_in(folder);
    ASSERT_EQ(names.size(), 1u);
    EXPECT_EQ(names[0].rfind("a.tmp-", 0), 0u);
    EXPECT_EQ(names[0].size(), strlen("a.tmp-XXXXXX"));
    ASSERT_EQ(file_writer_commit(&w), SC_OK);
    EXPECT_EQ(w, nullptr);
    EXPECT_EQ(bytes_of(at("a")), expected);
    EXPECT_EQ(names_in(folder).size(), 1u);
}

TEST_F(Writer, DiscardLeavesNothing)
{
    make("a", "before");
    file_writer *w = nullptr;
    ASSERT_EQ(file_writer_open(at("a").c_str(), &w), SC_OK);
    ASSERT_EQ(file_writer_puts(w, "half"), SC_OK);
    file_writer_discard(&w);
    EXPECT_EQ(w, nullptr);
    file_writer_discard(&w);
    EXPECT_EQ(bytes_of(at("a")), "before");
    EXPECT_EQ(names_in(folder), std::vector<std::string>{"a"});
}

TEST_F(Writer, KilledProcessLeavesTheOldFile)
{
    make("a", "before");
    in_child([&] {
        file_writer *w;
        if (file_writer_open(at("a").c_str(), &w) == SC_OK)
            (void)file_writer_puts(w, std::string(1 << 20, 'x').c_str());
        raise(SIGKILL);
        return 0;
    });
    EXPECT_EQ(bytes_of(at("a")), "before");
}

TEST_F(Writer, SeeksBackToAHeader)
{
    file_writer *w = nullptr;
    ASSERT_EQ(file_writer_open(at("a").c_str(), &w), SC_OK);
    ASSERT_EQ(file_writer_puts(w, "????body"), SC_OK);
    uint64_t end = file_writer_tell(w);
    ASSERT_EQ(file_writer_seek(w, 0), SC_OK);
    ASSERT_EQ(file_writer_puts(w, "head"), SC_OK);
    ASSERT_EQ(file_writer_seek(w, end), SC_OK);
    ASSERT_EQ(file_writer_puts(w, "!"), SC_OK);
    ASSERT_EQ(file_writer_commit(&w), SC_OK);
    EXPECT_EQ(bytes_of(at("a")), "headbody!");
}

TEST_F(Writer, RefusesImpossibleOffsets)
{
    file_writer *w = nullptr;
    ASSERT_EQ(file_writer_open(at("a").c_str(), &w), SC_OK);
    EXPECT_EQ(file_writer_seek(w, UINT64_MAX), SC_IO);
    EXPECT_EQ(file_writer_commit(&w), SC_IO); /* a writer that failed does not commit */
    EXPECT_TRUE(names_in(folder).empty());
    ASSERT_EQ(file_writer_open(at("a").c_str(), &w), SC_OK);
    ASSERT_EQ(file_writer_seek(w, INT64_MAX), SC_OK);
    EXPECT_EQ(file_writer_puts(w, "x"), SC_IO);
    file_writer_discard(&w);
    EXPECT_TRUE(names_in(folder).empty());
}

TEST_F(Writer, KeepsTheModeAndTheLink)
{
    make("real", "before");
    ASSERT_EQ(chmod(at("real").c_str(), 0640), 0);
    ASSERT_EQ(symlink("real", at("link").c_str()), 0);
    ASSERT_EQ(file_write_all(at("link").c_str(), "after", 5), SC_OK);
    EXPECT_EQ(bytes_of(at("real")), "after");
    struct stat info;
    ASSERT_EQ(lstat(at("link").c_str(), &info), 0);
    EXPECT_TRUE(S_ISLNK(info.st_mode));
    ASSERT_EQ(stat(at("real").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0640u);
    /* A new file's mode is the umask's affair. */
    mode_t mask = umask(022);
    ASSERT_EQ(file_write_all(at("new").c_str(), "", 0), SC_OK);
    umask(mask);
    ASSERT_EQ(stat(at("new").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0644u);
    EXPECT_EQ(info.st_size, 0);
}

TEST_F(Writer, RefusesAFolderAndAMissingOne)
{
    EXPECT_EQ(file_write_all(folder.c_str(), "x", 1), SC_IO);
    EXPECT_TRUE(says("names a folder"));
    EXPECT_EQ(file_write_all((folder + "/").c_str(), "x", 1), SC_IO);
    EXPECT_EQ(file_write_all("", "x", 1), SC_IO);
    EXPECT_EQ(file_write_all(at("absent/a").c_str(), "x", 1), SC_IO);
    EXPECT_TRUE(says("does not exist")) << sc_last_error();
    EXPECT_EQ(file_write_all(make("file", "").append("/a").c_str(), "x", 1), SC_IO);
    EXPECT_EQ(file_write_all("/proc/seedcorn", "x", 1), SC_IO);
    EXPECT_EQ(file_write_all(at(std::string(300, 'n')).c_str(), "x", 1), SC_IO);
    EXPECT_EQ(names_in(folder), std::vector<std::string>{"file"});
}

/* /dev/full says ENOSPC to every write; it is no regular file and is written straight. */
TEST_F(Writer, FullDevice)
{
    if (!file_exists("/dev/full"))
        GTEST_SKIP() << "this machine has no /dev/full";
    EXPECT_EQ(file_write_all("/dev/full", "x", 1), SC_IO);
    EXPECT_TRUE(says("No space left on device; free some space")) << sc_last_error();
    struct stat info;
    ASSERT_EQ(stat("/dev/full", &info), 0);
    EXPECT_TRUE(S_ISCHR(info.st_mode));
    EXPECT_EQ(file_write_all("/dev/null", "x", 1), SC_OK);
    ASSERT_EQ(stat("/dev/null", &info), 0);
    EXPECT_TRUE(S_ISCHR(info.st_mode));
}

TEST_F(Writer, WritesIntoAPipeButDoesNotSeekInIt)
{
    ASSERT_EQ(mkfifo(at("pipe").c_str(), 0600), 0);
    std::string heard;
    std::thread reader([&] { heard = bytes_of(at("pipe")); });
    file_writer *w = nullptr;
    ASSERT_EQ(file_writer_open(at("pipe").c_str(), &w), SC_OK);
    EXPECT_EQ(file_writer_puts(w, "through"), SC_OK);
    EXPECT_EQ(file_writer_seek(w, 7), SC_OK);
    EXPECT_EQ(file_writer_seek(w, 0), SC_IO);
    file_writer_discard(&w);
    reader.join();
    EXPECT_EQ(heard, "through");
}

/* A real file system that fills up and one that is read-only, in a mount namespace of a child. */
TEST_F(Writer, FullAndReadOnlyFileSystem)
{
    int result = in_child([&] {
        if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
            mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=256k") != 0)
            return 100;
        std::string bytes(1 << 20, 'x');
        if (file_write_all(at("kept").c_str(), "kept", 4) != SC_OK)
            return 1;
        if (file_write_all(at("kept").c_str(), bytes.data(), bytes.size()) != SC_IO || !says("No space left"))
            return 2;
        if (bytes_of(at("kept")) != "kept" || names_in(folder).size() != 1)
            return 3;
        if (mount(nullptr, folder.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) != 0)
            return 100;
        if (file_write_all(at("kept").c_str(), "y", 1) != SC_IO || !says("can be written"))
            return 4;
        if (file_make_dirs(at("new").c_str()) != SC_IO)
            return 5;
        if (file_remove_tree(at("kept").c_str()) != SC_IO)
            return 6;
        file_lock *lock;
        if (file_lock_take(folder.c_str(), &lock) != SC_IO)
            return 7;
        return bytes_of(at("kept")) == "kept" ? 0 : 8;
    });
    if (result == 100)
        GTEST_SKIP() << "mounting a small file system needs root";
    EXPECT_EQ(result, 0);
}

TEST_F(Writer, ForbiddenFolder)
{
    int result = in_child([&] {
        if (chmod(folder.c_str(), 0555) != 0 || (geteuid() == 0 && seteuid(65534) != 0))
            return 100;
        if (file_write_all(at("a").c_str(), "x", 1) != SC_IO ||
            !says("Permission denied; change its permissions"))
            return 1;
        if (file_make_dirs(at("new").c_str()) != SC_IO)
            return 2;
        return names_in(folder).empty() ? 0 : 3;
    });
    chmod(folder.c_str(), 0755);
    if (result == 100)
        GTEST_SKIP() << "the rights of another user are not to be had";
    EXPECT_EQ(result, 0);
}

TEST_F(Writer, FileSizeLimit)
{
    int result = in_child([&] {
        signal(SIGXFSZ, SIG_IGN);
        struct rlimit limit = {100000, 100000};
        if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
            return 1;
        std::string bytes(1 << 20, 'x');
        file_writer *w;
        if (file_writer_open(at("a").c_str(), &w) != SC_OK)
            return 2;
        if (file_writer_write(w, bytes.data(), bytes.size()) != SC_IO || !says("ulimit -f"))
            return 3;
        if (file_writer_write(w, bytes.data(), bytes.size()) != SC_IO)
            return 4;
        if (file_writer_commit(&w) != SC_IO || w != nullptr)
            return 5;
        return names_in(folder).empty() ? 0 : 6;
    });
    EXPECT_EQ(result, 0);
}

/* The buffer may hide the fault until the commit. */
TEST_F(Writer, FaultFoundAtCommit)
{
    int result = in_child([&] {
        signal(SIGXFSZ, SIG_IGN);
        struct rlimit limit = {10, 10};
        file_writer *w;
        if (setrlimit(RLIMIT_FSIZE, &limit) != 0 || file_writer_open(at("a").c_str(), &w) != SC_OK)
            return 1;
        if (file_writer_puts(w, "more than ten bytes") != SC_OK)
            return 2;
        if (file_writer_commit(&w) != SC_IO)
            return 3;
        return names_in(folder).empty() ? 0 : 4;
    });
    EXPECT_EQ(result, 0);
}
