//! Who may reach which boot environment over NFS, and the sealed handles that say which file.
