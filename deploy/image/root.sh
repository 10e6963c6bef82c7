#!/bin/sh
# Makes the root file system of the image: the binary, the certificates of
# authorities, a user without rights. The Dockerfile runs it; run it by hand to see
# what is in the image, and to start it without Docker:
#
#   deploy/image/root.sh target/x86_64-unknown-linux-gnu/release/sluicegate out/root
#   sudo chroot --userspec=65532:65532 out/root /sluicegate --version
#
# The service itself also needs /dev/random and /dev/urandom, which every container has
# (by hand: mknod -m 666 out/root/dev/random c 1 8, and urandom c 1 9).
set -eu
if [ $# -ne 2 ]; then
    echo "usage: $0 BINARY FOLDER" >&2
    exit 2
fi
binary=$1 root=$2
certificates=${CERTIFICATES:-/etc/ssl/certs/ca-certificates.crt}
# A program that asks for a loader or for libraries would find neither.
if ! header=$(readelf --program-headers "$binary" 2> /dev/null); then
    echo "$binary is no program for Linux: build it first" >&2
    exit 1
fi
case $header in
*INTERP*)
    echo "$binary is not static: build it with RUSTFLAGS='-C target-feature=+crt-static' and --target" >&2
    exit 1
    ;;
esac
if ! [ -s "$certificates" ]; then
    echo "there is no $certificates: install ca-certificates" >&2
    exit 1
fi
if [ -e "$root" ]; then
    echo "$root is there already: name a folder that is to be made" >&2
    exit 1
fi
mkdir -p "$root/etc/ssl/certs" "$root/config"
cp "$binary" "$root/sluicegate"
cp "$certificates" "$root/etc/ssl/certs/ca-certificates.crt"
echo 'sluicegate:x:65532:65532::/:/' > "$root/etc/passwd"
echo 'sluicegate:x:65532:' > "$root/etc/group"
chmod 755 "$root/sluicegate"
