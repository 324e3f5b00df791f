"""Devices that tell that a guest is dead: Linux's own drivers for pvpanic and the i6300esb watchdog."""

import os
import tempfile

import switching

SECONDS = 90


def register(run):
    def death_test(name, flavour, device, modules, commands, ends, slow=True):
        @run.test(name, slow=slow, segue_only=True)
        def _():
            drivers = run.fetched("drivers", flavour)
            files = [(os.path.join(drivers, module + ".ko"), module + ".ko") for module in modules]
            for path, _ in files:
                if not os.path.exists(path):
                    raise run.Skip(f"{path}: this kernel has no such module")
            loads = "; ".join(f"busybox insmod /drivers/{module}.ko" for module in modules)
            for options, status, lines in ends:
                with tempfile.TemporaryDirectory() as directory:
                    initrd = switching.archive_of(directory, run.fetched("initrd", "busybox", "64"), "drivers", files)
                    command = run.linux(flavour, 512, f'quiet segue.run="{loads}; {commands}"', initrd)
                    command[command.index("-kernel") + 1] = os.path.join(drivers, "vmlinuz")
                    with run.Machine(command + ["-device", device, *options]) as machine:
                        for line in lines:
                            machine.expect(line, SECONDS)
                        machine.expect_status(status, SECONDS)

    panic = "echo c > /proc/sysrq-trigger"
    died = "guest crashed: its kernel reported a panic"
    death_test("a panic of the guest's kernel, told through pvpanic: status 5", "cloud-amd64", "pvpanic", ("pvpanic", "pvpanic-mmio"), panic,
               [((), 5, [died])], slow=False)
    death_test("pvpanic at another port", "cloud-amd64", "pvpanic,ioport=0x5a5", ("pvpanic", "pvpanic-mmio"), panic, [((), 5, [died])])
    death_test("the same through pvpanic-pci", "cloud-amd64", "pvpanic-pci", ("pvpanic", "pvpanic-pci"), panic, [((), 5, [died])])
    # The driver's 2 seconds are the least its timer takes; nobody reloads it.
    hang = "busybox watchdog -T 2 -t 100 /dev/watchdog; cat /sys/class/watchdog/watchdog0/identity; while :; do busybox sleep 1; done"
    death_test("a watchdog that nobody reloads: status 5, or a reset", "amd64", "i6300esb", ("watchdog", "i6300esb"), hang,
               [(("-watchdog-action", "poweroff"), 5, ["i6300ESB timer", "guest crashed: its watchdog expired"]),
                (("-action", "watchdog=reset,reboot=shutdown"), 5, ["guest crashed: its watchdog expired"])])
