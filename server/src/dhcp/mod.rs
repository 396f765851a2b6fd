//! DHCPv4 (RFC 2131, RFC 2132, PXE 2.1): addresses and boot files for machines.
