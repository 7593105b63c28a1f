// Package quota bounds how much a directory can hold, by the project quota of
// ext4 and XFS: files of a directory carry the number of a project, what is
// made in it inherits that, and the project has a limit.
//
// The numbers are found without a table: from 2^30 on, beginning with the inode
// of the directory, the first whose project has no files and no limit. So
// several owners on one file system, such as snapshots and volumes, need not
// know of each other, and the small numbers are left to the administrator
// (projid(5)). Release gives a number back.
//
// The file system must be mounted with prjquota (XFS: also pquota); ext4 needs
// the features quota and project, too (mkfs.ext4 -O quota,project), and a
// kernel with CONFIG_QFMT_V2. Limits are kept by the file system, through
// restarts of the machine. Over the limit ext4 says EDQUOT and XFS ENOSPC; ext4
// lets a process with CAP_SYS_RESOURCE go on, but not through an overlay, which
// writes without that capability.
// Needs quotactl_fd(2), Linux 5.14, and CAP_SYS_ADMIN.
//
// Sources: quotactl(2), quotactl_fd(2), ioctl_xfs_fsgetxattr(2); Linux
// include/uapi/linux/quota.h, dqblk_xfs.h and fs.h; ext4(5), xfs(5).
package quota
