#!/bin/sh
# Sets up what `npm start` and `npm test` need, from npm and Debian's packages only. What is there
# already is not touched, so a second call costs next to nothing. All output goes to stderr.
#   sh ./setup.sh run     npm packages, the addon
#   sh ./setup.sh test    the same, and what the end-to-end tests use
#   sh ./setup.sh bench   the same, and what Wharf's speed is compared with
set -eu
cd "$(dirname "$0")"
purpose=${1:-run}

say() { printf 'wharf setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# step TITLE COMMAND...: one line a step; the output of a failing step is shown.
step() {
  title=$1; shift
  log=$(mktemp); began=$(date +%s)
  printf 'wharf setup: %s ... ' "$title" >&2
  if "$@" >"$log" 2>&1; then
    printf 'done in %s s\n' "$(($(date +%s) - began))" >&2
    rm -f "$log"
  else
    printf 'failed\n' >&2; cat "$log" >&2; rm -f "$log"
    return 1
  fi
}

major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)
[ "$major" -ge 20 ] || fail "Node.js 20 or newer is needed; found ${major} (0: none)"

# want COMMAND-OR-FILE PACKAGE: remembers the Debian package where the thing is missing.
missing=
want() {
  case "$1" in
    /*) [ -e "$1" ] && return ;;
    *) command -v "$1" >/dev/null 2>&1 && return ;;
  esac
  missing="$missing $2"
}
want make make
want g++ g++
[ -e /usr/include/node/uv.h ] || want /usr/include/uv.h libuv1-dev
want fusermount3 fuse3
# The fallback, npm's fuse-native, is left out of the npm packages where this is missing.
has_libfuse2() { /sbin/ldconfig -p | grep -q 'libfuse\.so\.2 '; }
has_libfuse2 || missing="$missing libfuse2"
if [ "$purpose" != run ]; then
  want fio fio
  want qemu-img qemu-utils
  want qemu-system-x86_64 qemu-system-x86
  want mkfs.ext4 e2fsprogs
  want cpio cpio
  want xfs_io xfsprogs
  want setfattr attr
  want git git
  want ceph-mon ceph-mon
  want ceph-osd ceph-osd
  want radosgw radosgw
  want ceph ceph-common
  want swift-proxy-server swift-proxy
  want swift-account-server swift-account
  want swift-container-server swift-container
  want swift-object-server swift-object
  want memcached memcached
  want etcd etcd-server
  want ip iproute2
  want openssl openssl
  want /bin/busybox busybox-static
  ls /boot/vmlinuz-*-cloud-amd64 >/dev/null 2>&1 || missing="$missing linux-image-cloud-amd64"
fi

# Services of the packages are not started: Wharf's tests run what they need by themselves.
install_debian_packages() {
  export DEBIAN_FRONTEND=noninteractive
  packages=${*:-$missing}
  policy=/usr/sbin/policy-rc.d
  made=
  [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; made=1; }
  status=0
  # shellcheck disable=SC2086
  apt-get install -y --no-install-recommends $packages ||
    { apt-get update && apt-get install -y --no-install-recommends $packages; } || status=$?
  [ -z "$made" ] || rm -f "$policy"
  return $status
}
may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; }
if [ -n "$missing" ]; then
  if may_install; then
    step "Debian packages:$missing" install_debian_packages
  else
    say "missing and not installed (not root):$missing"
  fi
fi

# baseline FILE PACKAGE: one that can't be had is left out, and the bench says so.
baseline() {
  [ -e "$1" ] && return
  may_install && step "Debian package: $2" install_debian_packages "$2" || say "$2 is not compared with"
}
if [ "$purpose" = bench ]; then
  baseline /usr/include/fuse3/fuse_lowlevel.h libfuse3-dev
  baseline /usr/bin/s3backer s3backer
  baseline /usr/sbin/glusterd glusterfs-server
fi

# Not `npm ci`: it refuses a lock file without the packages of other platforms, which not every
# registry has. The versions are those of the lock file all the same. They are installed anew when
# the lock file has changed, or when what the fallback needs has come.
stamp=node_modules/.wharf-lock
wanted_stamp() { cat package-lock.json; has_libfuse2 && echo libfuse2; }
install_npm_packages() { npm install --loglevel=warn && { wanted_stamp >"$stamp" || true; }; }
{ wanted_stamp || true; } | cmp -s - "$stamp" || step 'npm packages' install_npm_packages

if command -v g++ >/dev/null 2>&1 && command -v make >/dev/null 2>&1; then
  make -s -q -C native 2>/dev/null || step 'native addon' make -s -C native
else
  say 'no C++ compiler: Wharf runs without its addon, slower, on fuse-native if that is installed'
fi
