/* ext4 by libext2fs: see mkfs.h.  The order of steps is the library's: initialise, allocate the
 * tables, root folder, reserved inodes, resize inode, journal, close (which writes it all). */
#include "mkfs.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <ext2fs/ext2fs.h>

#include "base/clock.h"

enum {
    BLOCK = 4096,
    BYTES_PER_INODE = 16384,
    JOURNAL_BLOCKS = 8192,
    MIN_BYTES = 16 << 20,
    INODE_SIZE = 256,
    FLEX_BG_LOG = 4
};

static bool fail(struct vic_err *err, errcode_t code, const char *what)
{
    return vic_fail(err, VIC_IO, 0, "mkfs: %s: %s", what, error_message(code));
}

static void describe(struct ext2_super_block *p, uint64_t bytes)
{
    memset(p, 0, sizeof *p);
    p->s_rev_level = EXT2_DYNAMIC_REV;
    p->s_log_block_size = 2;
    p->s_log_cluster_size = 2;
    p->s_inode_size = INODE_SIZE;
    p->s_inodes_count = (uint32_t)(bytes / BYTES_PER_INODE);
    p->s_log_groups_per_flex = FLEX_BG_LOG;
    p->s_feature_compat = EXT2_FEATURE_COMPAT_DIR_INDEX | EXT2_FEATURE_COMPAT_EXT_ATTR |
                          EXT2_FEATURE_COMPAT_RESIZE_INODE;
    p->s_feature_incompat = EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_EXTENTS |
                            EXT4_FEATURE_INCOMPAT_64BIT | EXT4_FEATURE_INCOMPAT_FLEX_BG;
    p->s_feature_ro_compat = EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER |
                             EXT2_FEATURE_RO_COMPAT_LARGE_FILE | EXT4_FEATURE_RO_COMPAT_HUGE_FILE |
                             EXT4_FEATURE_RO_COMPAT_DIR_NLINK | EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE |
                             EXT4_FEATURE_RO_COMPAT_METADATA_CSUM;
    ext2fs_blocks_count_set(p, bytes / BLOCK);
}

static void personalise(ext2_filsys fs, const char *label)
{
    struct ext2_super_block *s = fs->super;
    random_bytes(s->s_uuid, sizeof s->s_uuid);
    random_bytes(s->s_hash_seed, sizeof s->s_hash_seed);
    memcpy(s->s_volume_name, label, strnlen(label, sizeof s->s_volume_name));
    s->s_checksum_type = EXT2_CRC32C_CHKSUM; /* not among what ext2fs_initialize copies */
    s->s_def_hash_version = EXT2_HASH_HALF_MD4;
    s->s_max_mnt_count = -1;
    s->s_min_extra_isize = s->s_want_extra_isize = 32;
    s->s_mkfs_time = s->s_wtime = s->s_lastcheck = (uint32_t)time(NULL);
    s->s_default_mount_opts = EXT2_DEFM_XATTR_USER | EXT2_DEFM_ACL;
    ext2fs_init_csum_seed(fs);
}

/* The blocks of inodes that are written now must not hold what the disk held before; the kernel
 * zeroes the rest of the tables after the first mount. */
static errcode_t zero_first_inodes(ext2_filsys fs)
{
    return ext2fs_zero_blocks2(fs, ext2fs_inode_table_loc(fs, 0), 8, NULL, NULL);
}

static errcode_t make_folders(ext2_filsys fs)
{
    errcode_t r = ext2fs_mkdir(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, NULL);
    return r ? r : ext2fs_mkdir(fs, EXT2_ROOT_INO, 0, "lost+found");
}

static errcode_t reserve_inodes(ext2_filsys fs)
{
    ext2fs_inode_alloc_stats2(fs, EXT2_BAD_INO, 1, 0);
    for (ext2_ino_t i = EXT2_ROOT_INO + 1; i < EXT2_FIRST_INODE(fs->super); i++)
        ext2fs_inode_alloc_stats2(fs, i, 1, 0);
    ext2fs_mark_ib_dirty(fs);
    return ext2fs_update_bb_inode(fs, NULL);
}

static errcode_t add_journal(ext2_filsys fs)
{
    return ext2fs_add_journal_inode(fs, JOURNAL_BLOCKS,
                                    EXT2_MKJOURNAL_LAZYINIT | EXT2_MKJOURNAL_NO_MNT_CHECK);
}

static bool build(ext2_filsys fs, struct vic_err *err)
{
    static const struct {
        errcode_t (*step)(ext2_filsys fs);
        const char *what;
    } steps[] = {
        {ext2fs_allocate_tables, "allocate tables"},  {zero_first_inodes, "zero inodes"},
        {reserve_inodes, "reserve inodes"},           {make_folders, "make the root folder"},
        {ext2fs_create_resize_inode, "resize inode"}, {add_journal, "journal"},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        errcode_t r = steps[i].step(fs);
        if (r)
            return fail(err, r, steps[i].what);
    }
    return true;
}

bool mkfs_ext4(const char *device, uint64_t bytes, const char *label, struct vic_err *err)
{
    struct ext2_super_block p;
    ext2_filsys fs;
    if (bytes < MIN_BYTES || strlen(label) > 16)
        return vic_fail(err, VIC_INVALID, 0, "mkfs: the disk is too small or the label too long");
    describe(&p, bytes);
    errcode_t r = ext2fs_initialize(device, EXT2_FLAG_64BITS, &p, unix_io_manager, &fs);
    if (r)
        return fail(err, r, "initialize");
    personalise(fs, label);
    if (!build(fs, err)) {
        ext2fs_free(fs);
        return false;
    }
    r = ext2fs_close_free(&fs);
    return r == 0 || fail(err, r, "write");
}
