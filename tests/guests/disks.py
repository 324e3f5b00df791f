"""Disk images in the formats that qemu-nbd serves: Linux writes and reads them; qemu-img says whether they are sound."""

import os
import shutil
import signal
import subprocess
import tempfile

import switching

MODULES = ("virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk")
SECONDS = 120
OFFSET, TEXT = 1 << 20, b"written by the guest"


def register(run):
    def guest(directory, script, *drives):
        modules = run.fetched("modules", "cloud-amd64")
        path = os.path.join(directory, "run.sh")
        with open(path, "w", encoding="utf-8") as file:
            file.write("".join(f"busybox insmod /disks/{name}.ko; " for name in MODULES) + "\n" + script)
        files = [(os.path.join(modules, name + ".ko"), name + ".ko") for name in MODULES] + [(path, "run.sh")]
        shutil.rmtree(os.path.join(directory, "root"), ignore_errors=True)
        initrd = switching.archive_of(directory, run.fetched("initrd", "busybox", "64"), "disks", files)
        command = run.linux("cloud-amd64", 256, 'quiet segue.run="sh /disks/run.sh"', initrd)
        command[command.index("-kernel") + 1] = os.path.join(modules, "vmlinuz")
        return run.Machine(command + [word for drive in drives for word in ("-drive", drive)])

    def qemu_img(*arguments):
        if not shutil.which("qemu-img") or not shutil.which("qemu-nbd"):
            raise run.Skip("no qemu-img and qemu-nbd (Debian package qemu-utils)")
        subprocess.run(["qemu-img", *arguments], check=True, stdout=subprocess.DEVNULL)

    def content(directory, image, kind):
        raw = os.path.join(directory, "raw")
        qemu_img("convert", "-f", kind, "-O", "raw", image, raw)
        with open(raw, "rb") as file:
            return file.read()

    write = f"echo -n '{TEXT.decode()}' | busybox dd of=/dev/vda bs=512 seek={OFFSET // 512} conv=notrunc,fsync; "

    @run.test("disk formats: qcow2, vmdk, vdi and vpc are written and read", segue_only=True)
    def _():
        with tempfile.TemporaryDirectory() as directory:
            kinds, drives, script = ("qcow2", "vmdk", "vdi", "vpc"), [], ""
            for letter, kind in zip("abcd", kinds):
                image = os.path.join(directory, "disk-" + kind)
                qemu_img("create", "-q", "-f", kind, image, "16M")
                drives.append(f"file={image},if=virtio,format={kind}")
                script += (write.replace("vda", "vd" + letter) +
                           f"echo 3 > /proc/sys/vm/drop_caches; echo {kind}: $(busybox dd if=/dev/vd{letter} bs=512 skip={OFFSET // 512} count=1)\n")
            with guest(directory, script, *drives) as machine:
                for kind in kinds:
                    machine.expect(f"{kind}: {TEXT.decode()}", SECONDS)
                machine.expect_status(0, SECONDS)
            for kind in kinds:
                image = os.path.join(directory, "disk-" + kind)
                if content(directory, image, kind)[OFFSET:OFFSET + len(TEXT)] != TEXT:
                    raise run.Failure(f"{kind}: what the guest wrote is not in the image")
                if kind in ("qcow2", "vmdk", "vdi"):
                    qemu_img("check", "-q", "-f", kind, image)

    @run.test("disk formats: a backing file is read and not written, snapshot=on forgets", segue_only=True)
    def _():
        with tempfile.TemporaryDirectory() as directory:
            base, image, forgetful = (os.path.join(directory, name) for name in ("base", "layer.qcow2", "other.qcow2"))
            with open(base, "wb") as file:
                file.write(b"from the base" + bytes((16 << 20) - 13))
            qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", image)
            qemu_img("create", "-q", "-f", "qcow2", forgetful, "16M")
            script = "echo HEAD $(busybox dd if=/dev/vda bs=13 count=1)\n" + write + write.replace("vda", "vdb")
            with guest(directory, script, f"file={image},if=virtio", f"file={forgetful},if=virtio,snapshot=on") as machine:
                machine.expect("HEAD from the base", SECONDS)
                machine.expect_status(0, SECONDS)
            if content(directory, image, "qcow2")[OFFSET:OFFSET + len(TEXT)] != TEXT:
                raise run.Failure("what the guest wrote is not in the layer")
            if TEXT in content(directory, base, "raw") or TEXT in content(directory, forgetful, "qcow2"):
                raise run.Failure("the base or the disk with snapshot=on was written")

    @run.test("disk formats: the wrong one is one sentence, and the death of qemu-nbd is told", segue_only=True)
    def _():
        with tempfile.TemporaryDirectory() as directory:
            image = os.path.join(directory, "disk.vdi")
            qemu_img("create", "-q", "-f", "qcow2", image, "16M")
            with guest(directory, "", f"file={image},if=virtio") as machine:
                machine.expect("cannot open disk image .* as vdi: ", SECONDS)
                machine.expect_status(2, SECONDS)
            script = ("echo READY; busybox sleep 3; busybox dd if=/dev/vda of=/dev/null bs=512 count=1 skip=8192 || echo FAILED\n")
            with guest(directory, script, f"file={image},if=virtio,format=qcow2") as machine:
                machine.expect("READY", SECONDS)
                with open(f"/proc/{machine.process.pid}/task/{machine.process.pid}/children", encoding="ascii") as children:
                    for pid in children.read().split():
                        with open(f"/proc/{pid}/comm", encoding="ascii") as name:
                            if name.read().strip() == "qemu-nbd":
                                os.kill(int(pid), signal.SIGKILL)
                machine.expect("qemu-nbd has ended", SECONDS)
                machine.expect("FAILED", SECONDS)
