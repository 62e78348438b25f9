#!/bin/bash
# Boots the device, inside namespaces of its own (user, mount, network):
#   boot.sh ROOTFS STATE [BINFMT_REGISTRATION]
# ROOTFS is shared and never written: the device sees it through an overlay. STATE holds what the
# tests look at and change while it runs: sys/ (sysfs), answers/ (of getprop, dumpsys, ...).
# A reboot is the death of the inner init: processes go, /data stays.
set -e
rootfs=$1 state=$2
ip link set lo up
mount -t tmpfs tmpfs "$state/mnt"
mkdir "$state"/mnt/{upper,work,root}
root=$state/mnt/root
mount -t overlay overlay -o "lowerdir=$rootfs,upperdir=$state/mnt/upper,workdir=$state/mnt/work" "$root"
mount --bind "$state/sys" "$root/sys"
mount --bind "$state/answers" "$root/answers"
mount -t tmpfs -o "size=${DATA_SIZE:-512m},mode=1777" tmpfs "$root/data/local/tmp"
for node in null zero full random urandom tty; do
  touch "$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
if [ -n "$3" ]; then # foreign programs: known to this user namespace only
  mkdir "$state/mnt/binfmt"
  mount -t binfmt_misc none "$state/mnt/binfmt"
  echo "$3" >"$state/mnt/binfmt/register"
fi
launch=(chroot "$root" /init)
if [ -n "$LAUNCH" ]; then
  launch=($LAUNCH "$root")
fi
if [ -n "$ADBD" ]; then
  mount --bind "$ADBD" "$root/usr/sbin/adbd"
  touch "$state/answers/adb_keys"
  touch "$root/data/misc/adb/adb_keys"
  mount --bind "$state/answers/adb_keys" "$root/data/misc/adb/adb_keys"
fi
while true; do
  setpriv --pdeathsig KILL unshare --pid --fork --kill-child=KILL --mount-proc="$root/proc" \
    env -i PATH=/system/bin:/usr/bin:/usr/sbin HOME=/data/local/tmp ADBD_PORT=5555 \
    "${launch[@]}" </dev/null &
  echo $! >"$state/init.pid"
  wait $! || true
  sleep 0.2
done
