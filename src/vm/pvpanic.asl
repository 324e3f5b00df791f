/* -device pvpanic.  The port is put in when the table is (acpi.c). */
DefinitionBlock ("", "SSDT", 2, "SEGUE ", "SEGUEPVP", 1)
{
    External (\_SB.PCI0.ISA, DeviceObj)
    Scope (\_SB.PCI0.ISA)
    {
        Device (PEVT)
        {
            Name (_HID, "QEMU0001")
            Name (_STA, 0x0f)
            Name (_CRS, ResourceTemplate () { IO (Decode16, 0x0505, 0x0505, 1, 1) })
        }
    }
}
