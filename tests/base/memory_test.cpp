/* What memory is left: of the machine, and of the control groups that the process is in. */
#include "support.h"

#include <sys/resource.h>

#include "base/memory.h"

class Memory : public Folder
{
  protected:
    void put(const std::string &name, const std::string &text) const
    {
        const std::string path = at(name);
        ASSERT_EQ(file_make_dirs(path.substr(0, path.rfind('/')).c_str()), SC_OK);
        make(name, text);
    }
    int64_t left() const
    {
        return memory_available_in(folder.c_str());
    }
};

TEST_F(Memory, IsWhatTheKernelSays)
{
    EXPECT_EQ(left(), -1);
    put("proc/meminfo", "MemTotal:  9000 kB\nMemFree:  10 kB\nMemAvailable:   5000 kB\n");
    EXPECT_EQ(left(), 5000 * 1024);
}

TEST_F(Memory, IsLessInAGroupOfVersionTwo)
{
    put("proc/meminfo", "MemAvailable:   5000 kB\n");
    put("proc/self/cgroup", "0::/a/b\n");
    put("sys/fs/cgroup/a/b/memory.max", "max\n");
    put("sys/fs/cgroup/a/b/memory.current", "1000\n");
    EXPECT_EQ(left(), 5000 * 1024);
    put("sys/fs/cgroup/a/memory.max", "70000\n");
    put("sys/fs/cgroup/a/memory.current", "60000\n");
    EXPECT_EQ(left(), 10000);
    put("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 2000\nactive_file 300\n");
    EXPECT_EQ(left(), 12300);
    put("sys/fs/cgroup/a/b/memory.max", "1500\n");
    EXPECT_EQ(left(), 500);
    put("sys/fs/cgroup/a/b/memory.current", "1600\n");
    EXPECT_EQ(left(), 0);
}

TEST_F(Memory, IsLessInAGroupOfVersionOne)
{
    put("proc/meminfo", "MemAvailable:   5000 kB\n");
    put("proc/self/cgroup", "5:devices:/x\n4:memory:/inside\n0::/\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "123\n");
    EXPECT_EQ(left(), 5000 * 1024);
    put("sys/fs/cgroup/memory/inside/memory.limit_in_bytes", "4000\n");
    put("sys/fs/cgroup/memory/inside/memory.usage_in_bytes", "3000\n");
    put("sys/fs/cgroup/memory/inside/memory.stat", "total_inactive_file 10\ntotal_active_file 20\n");
    EXPECT_EQ(left(), 1030);
}

TEST_F(Memory, IsLessUnderALimitOfItsOwn)
{
    const int64_t room = 64 << 20;
    EXPECT_GT(memory_available(), room);
    const int code = in_child([] {
        long pages = 0;
        std::ifstream("/proc/self/statm") >> pages;
        const rlimit limit = {rlim_t(pages * sysconf(_SC_PAGESIZE)) + room, RLIM_INFINITY};
        if (setrlimit(RLIMIT_AS, &limit) != 0)
            return 1;
        const int64_t left = memory_available();
        return left > 0 && left <= room ? 0 : 2;
    });
    EXPECT_EQ(code, 0);
}

TEST_F(Memory, IsHeldByThisProcess)
{
    const int64_t before = memory_resident();
    EXPECT_GT(before, 1 << 20);
    const std::vector<char> more(64 << 20, 'x');
    EXPECT_GT(memory_resident(), before + (60 << 20));
}

TEST_F(Memory, IsNoMoreThanOneSays)
{
    const int64_t free = memory_available();
    setenv("SEEDCORN_MEMORY", "5000000", 1);
    EXPECT_EQ(memory_available(), 5000000);
    EXPECT_TRUE(memory_affords(5000000 / 8));
    EXPECT_FALSE(memory_affords(5000000 / 8 + 1));
    setenv("SEEDCORN_MEMORY", "1000000000000000", 1);
    EXPECT_GT(memory_available(), 5000000);
    EXPECT_LT(memory_available(), 2 * free);
    for (const char *none : {"", "4G", "much", "-3"}) {
        setenv("SEEDCORN_MEMORY", none, 1);
        EXPECT_GT(memory_available(), 5000000) << none;
    }
    unsetenv("SEEDCORN_MEMORY");
}
