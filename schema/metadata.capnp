@0xc64342a8149814f7;

# The PuzzleFS rootfs blob, version 3. docs/format.md is the specification; this file is its
# machine-readable part. Ordinals 0 to 13 of Inode are fixed by existing images: append, never move.

struct Rootfs {
  metadatas @0 :List(InodeVector);     # uppermost layer first
  fsVerityData @1 :List(VerityData);   # sorted by digest, one per distinct blob
  manifestVersion @2 :UInt64;          # 3
  requiredFeatures @3 :UInt64;         # a reader refuses an image with a bit that it does not know
}

struct InodeVector {
  inodes @0 :List(Inode);              # ascending by number
}

struct Inode {
  ino @0 :UInt64;
  mode :union {
    unknown @1 :Void;
    fifo @2 :Void;
    chr @3 :Chr;
    dir @4 :Dir;
    blk @5 :Blk;
    file @6 :List(FileChunk);
    lnk @7 :Void;
    sock @8 :Void;
    wht @9 :Void;
  }
  uid @10 :UInt32;
  gid @11 :UInt32;
  permissions @12 :UInt16;             # 12 bits
  additional @13 :InodeAdditional;     # on a symbolic link, or where there are extended attributes
  mtimeSec @14 :Int64;                 # since the epoch
  mtimeNsec @15 :UInt32;               # 0 to 999,999,999
}

struct Dir {
  entries @0 :List(DirEntry);
  lookBelow @1 :Bool;                  # always false
}

struct DirEntry {
  ino @0 :UInt64;
  name @1 :Data;
}

struct Chr {
  major @0 :UInt64;
  minor @1 :UInt64;
}

struct Blk {
  major @0 :UInt64;
  minor @1 :UInt64;
}

struct FileChunk {
  blob @0 :BlobRef;
  len @1 :UInt64;
}

struct BlobRef {
  digest @0 :Data;                     # SHA-256, 32 bytes
  offset @1 :UInt64;                   # in uncompressed bytes
  compressed @2 :Bool;
}

struct InodeAdditional {
  xattrs @0 :List(Xattr);
  symlinkTarget @1 :Data;
}

struct Xattr {
  key @0 :Data;
  val @1 :Data;
}

struct VerityData {
  digest @0 :Data;                     # SHA-256 of a blob, 32 bytes
  verity @1 :Data;                     # its fs-verity digest, 32 bytes
}
