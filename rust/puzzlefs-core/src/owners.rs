//! Owners as another place numbers them: what a container calls user 0 is some user of the host.

use alloc::vec::Vec;

use crate::tables::{Vector, XattrRow};

/// What the kernel shows for a number that has no other (`overflowuid`).
pub const UNMAPPED: u32 = 65534;

const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
const ACL_HEADER: usize = 4;
const ACL_ENTRY: usize = 8;
const ACL_USER: u8 = 2;
const ACL_GROUP: u8 = 8;

const CAPABILITY: &[u8] = b"security.capability";
const REVISION_MASK: u32 = 0xff00_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;
const REVISION_2_SIZE: usize = 20;

/// Numbers `inside .. inside + count` are `outside ..` elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first number in the image.
    pub inside: u32,
    /// The first number that is shown.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Ranges of users and of groups; an empty list leaves numbers as they are.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    /// Users.
    pub users: Vec<Range>,
    /// Groups.
    pub groups: Vec<Range>,
}

impl Owners {
    /// Says whether everything stays as it is.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }

    /// Gives everything in a layer the owners that are shown, in access control lists and
    /// capabilities too. What is no such list or capability stays as it is.
    pub fn shift(&self, layer: &mut Vector) {
        for inode in &mut layer.inodes {
            inode.uid = shifted(&self.users, inode.uid);
            inode.gid = shifted(&self.groups, inode.gid);
        }
        let mut xattrs = core::mem::take(&mut layer.xattrs);
        for xattr in &mut xattrs {
            self.shift_attribute(xattr, layer);
        }
        layer.xattrs = xattrs;
    }

    fn shift_attribute(&self, xattr: &mut XattrRow, layer: &mut Vector) {
        let key = layer.text(xattr.key_offset, xattr.key_length);
        let value = layer.text(xattr.value_offset, xattr.value_length);
        let (Some(key), Some(value)) = (key, value) else {
            return;
        };
        let changed = match key {
            CAPABILITY if !self.users.is_empty() => self.capability(value),
            key if ACLS.contains(&key) => self.acl(value),
            _ => None,
        };
        if let Some(changed) = changed {
            // Others may have the same bytes of the heap for theirs.
            xattr.value_offset = layer.heap.len() as u64;
            xattr.value_length = changed.len() as u32;
            layer.heap.extend_from_slice(&changed);
        }
    }

    fn acl(&self, value: &[u8]) -> Option<Vec<u8>> {
        let entries = value.get(ACL_HEADER..)?;
        if entries.len() % ACL_ENTRY != 0 {
            return None;
        }
        let mut changed = value.to_vec();
        for entry in changed[ACL_HEADER..].chunks_exact_mut(ACL_ENTRY) {
            let [tag, 0, _, _, id @ ..] = entry else {
                continue;
            };
            let ranges = match *tag {
                ACL_USER => &self.users,
                ACL_GROUP => &self.groups,
                _ => continue,
            };
            if let Ok(number) = <[u8; 4]>::try_from(&*id) {
                let number = shifted(ranges, u32::from_le_bytes(number));
                id.copy_from_slice(&number.to_le_bytes());
            }
        }
        Some(changed)
    }

    /// A capability counts for the root of one user namespace, which the third revision names.
    fn capability(&self, value: &[u8]) -> Option<Vec<u8>> {
        let (magic, rest) = value.split_first_chunk()?;
        let magic = u32::from_le_bytes(*magic);
        let (bits, root) = match (magic & REVISION_MASK, value.len()) {
            (REVISION_2, REVISION_2_SIZE) => (rest, 0),
            (REVISION_3, _) => {
                let (bits, root) = rest.split_last_chunk()?;
                (bits, u32::from_le_bytes(*root))
            }
            _ => return None,
        };
        let mut changed = (magic & !REVISION_MASK | REVISION_3).to_le_bytes().to_vec();
        changed.extend_from_slice(bits);
        changed.extend_from_slice(&shifted(&self.users, root).to_le_bytes());
        Some(changed)
    }
}

/// Returns the number that is shown for one in the image.
fn shifted(ranges: &[Range], number: u32) -> u32 {
    if ranges.is_empty() {
        return number;
    }
    let found = ranges.iter().find_map(|range| {
        let distance = number.checked_sub(range.inside)?;
        (distance < range.count).then(|| range.outside.checked_add(distance))?
    });
    found.unwrap_or(UNMAPPED)
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::{Owners, Range, UNMAPPED, shifted};

    fn owners() -> Owners {
        let range = |inside, outside, count| Range {
            inside,
            outside,
            count,
        };
        Owners {
            users: vec![range(0, 100_000, 1000), range(5000, 7, 1)],
            groups: vec![range(0, 200_000, 1000)],
        }
    }

    #[test]
    fn numbers_in_ranges_move_and_others_are_nobody() {
        let users = owners().users;
        let shown: Vec<u32> = [0, 999, 1000, 5000, u32::MAX]
            .map(|number| shifted(&users, number))
            .into();
        assert_eq!(shown, [100_000, 100_999, UNMAPPED, 7, UNMAPPED]);
        assert_eq!(shifted(&[], 5), 5);
    }

    #[test]
    fn range_beyond_the_last_number_maps_nothing_there() {
        let range = Range {
            inside: 0,
            outside: u32::MAX,
            count: 2,
        };
        assert_eq!(shifted(&[range], 0), u32::MAX);
        assert_eq!(shifted(&[range], 1), UNMAPPED);
    }

    #[test]
    fn lists_name_the_shown_users_and_groups() {
        let mut acl = vec![2, 0, 0, 0];
        acl.extend([1, 0, 7, 0, 255, 255, 255, 255]);
        acl.extend([2, 0, 7, 0, 5, 0, 0, 0]);
        acl.extend([8, 0, 7, 0, 5, 0, 0, 0]);
        let changed = owners().acl(&acl).unwrap();
        assert_eq!(changed[..16], acl[..16]);
        assert_eq!(changed[16..20], 100_005_u32.to_le_bytes());
        assert_eq!(changed[24..28], 200_005_u32.to_le_bytes());
        assert_eq!(owners().acl(&acl[..10]), None);
        assert_eq!(owners().acl(&[2]), None);
    }

    #[test]
    fn capabilities_name_the_shown_root() {
        let mut second = 0x0200_0001_u32.to_le_bytes().to_vec();
        second.extend([1; 16]);
        let third = owners().capability(&second).unwrap();
        assert_eq!(third[..4], 0x0300_0001_u32.to_le_bytes());
        assert_eq!(third[4..20], [1; 16]);
        assert_eq!(third[20..], 100_000_u32.to_le_bytes());
        let mut own = third.clone();
        own[20..].copy_from_slice(&5_u32.to_le_bytes());
        assert_eq!(
            owners().capability(&own).unwrap()[20..],
            100_005_u32.to_le_bytes()
        );
        assert_eq!(owners().capability(&second[..19]), None);
        assert_eq!(owners().capability(&third[..6]), None);
        assert_eq!(owners().capability(b""), None);
    }
}
