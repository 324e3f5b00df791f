#!/bin/sh
# What the guest of the switching tests runs: the modules of its disk, where there are some, then tests/guests/load.c.
#   switching.sh ROUNDS
cd /switching || exit 9
for name in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk; do
    [ ! -e $name.ko ] || insmod $name.ko
done
disk=
[ ! -b /dev/vda ] || disk=/dev/vda
before=$(dmesg | wc -l) # what the kernel said when it booted is not about switching
./load "$1" $disk
echo "load: status $?"
dmesg | tail -n +$((before + 1)) | grep -iE 'soft lockup|hard lockup|BUG:|Oops|rcu.*stall|Marking clocksource|Call Trace' | sed 's/^/WRONG: /'
