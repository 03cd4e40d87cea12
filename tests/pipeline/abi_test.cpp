// sc_abi_layout: what drivers in other languages compare their structs with.
#include <gtest/gtest.h>

extern "C" {
#include "seedcorn/abi.h"
}

namespace
{

TEST(Abi, MembersFollowEachOtherInsideTheirStruct)
{
    size_t n = 0, end = 0, size = 0, structs = 0;
    const sc_abi_member *members = sc_abi_layout(&n);
    ASSERT_GT(n, 40u);
    for (size_t i = 0; i < n; i++) {
        if (members[i].member[0] == '\0') {
            EXPECT_LE(size - end, 8u) << "members are missing before " << members[i].type;
            size = members[i].size;
            end = 0;
            structs++;
            continue;
        }
        EXPECT_GE(members[i].offset, end) << members[i].type << "." << members[i].member;
        EXPECT_LE(members[i].offset - end, 7u) << "a member is missing before " << members[i].member;
        end = members[i].offset + members[i].size;
        EXPECT_LE(end, size);
    }
    EXPECT_EQ(structs, 7u);
}

} // namespace
