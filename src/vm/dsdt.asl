/* What the ACPI namespace says about the PC board.  Fixed hardware is in the FADT; addresses here repeat devices/ headers. */
DefinitionBlock ("", "DSDT", 2, "SEGUE ", "SEGUEPC ", 1)
{
    Name (\_S5, Package () { 0, 0, 0, 0 })

    Scope (\_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 0xff, 0, 0x100)
                IO (Decode16, 0x0cf8, 0x0cf8, 1, 8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0, 0x0000, 0x0cf7, 0, 0x0cf8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0, 0x0d00, 0xffff, 0, 0xf300)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                             0, 0x000a0000, 0x000bffff, 0, 0x00020000)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                             0, 0xc0000000, 0xfebfffff, 0, 0x3ec00000)
            })
            /* Pin p (0-3) of slot s is PIRQ (s + p - 1) & 3, and the PIRQs are routed to 10, 10, 11, 11 (pci_bus_set_default_routes). */
            Name (_PRT, Package ()
            {
                Package () { 0x0001ffff, 0, 0, 10 }, Package () { 0x0001ffff, 1, 0, 10 },
                Package () { 0x0001ffff, 2, 0, 11 }, Package () { 0x0001ffff, 3, 0, 11 },
                Package () { 0x0002ffff, 0, 0, 10 }, Package () { 0x0002ffff, 1, 0, 11 },
                Package () { 0x0002ffff, 2, 0, 11 }, Package () { 0x0002ffff, 3, 0, 10 },
                Package () { 0x0003ffff, 0, 0, 11 }, Package () { 0x0003ffff, 1, 0, 11 },
                Package () { 0x0003ffff, 2, 0, 10 }, Package () { 0x0003ffff, 3, 0, 10 },
                Package () { 0x0004ffff, 0, 0, 11 }, Package () { 0x0004ffff, 1, 0, 10 },
                Package () { 0x0004ffff, 2, 0, 10 }, Package () { 0x0004ffff, 3, 0, 11 },
                Package () { 0x0005ffff, 0, 0, 10 }, Package () { 0x0005ffff, 1, 0, 10 },
                Package () { 0x0005ffff, 2, 0, 11 }, Package () { 0x0005ffff, 3, 0, 11 },
                Package () { 0x0006ffff, 0, 0, 10 }, Package () { 0x0006ffff, 1, 0, 11 },
                Package () { 0x0006ffff, 2, 0, 11 }, Package () { 0x0006ffff, 3, 0, 10 },
                Package () { 0x0007ffff, 0, 0, 11 }, Package () { 0x0007ffff, 1, 0, 11 },
                Package () { 0x0007ffff, 2, 0, 10 }, Package () { 0x0007ffff, 3, 0, 10 },
                Package () { 0x0008ffff, 0, 0, 11 }, Package () { 0x0008ffff, 1, 0, 10 },
                Package () { 0x0008ffff, 2, 0, 10 }, Package () { 0x0008ffff, 3, 0, 11 },
                Package () { 0x0009ffff, 0, 0, 10 }, Package () { 0x0009ffff, 1, 0, 10 },
                Package () { 0x0009ffff, 2, 0, 11 }, Package () { 0x0009ffff, 3, 0, 11 },
                Package () { 0x000affff, 0, 0, 10 }, Package () { 0x000affff, 1, 0, 11 },
                Package () { 0x000affff, 2, 0, 11 }, Package () { 0x000affff, 3, 0, 10 },
                Package () { 0x000bffff, 0, 0, 11 }, Package () { 0x000bffff, 1, 0, 11 },
                Package () { 0x000bffff, 2, 0, 10 }, Package () { 0x000bffff, 3, 0, 10 },
                Package () { 0x000cffff, 0, 0, 11 }, Package () { 0x000cffff, 1, 0, 10 },
                Package () { 0x000cffff, 2, 0, 10 }, Package () { 0x000cffff, 3, 0, 11 },
                Package () { 0x000dffff, 0, 0, 10 }, Package () { 0x000dffff, 1, 0, 10 },
                Package () { 0x000dffff, 2, 0, 11 }, Package () { 0x000dffff, 3, 0, 11 },
                Package () { 0x000effff, 0, 0, 10 }, Package () { 0x000effff, 1, 0, 11 },
                Package () { 0x000effff, 2, 0, 11 }, Package () { 0x000effff, 3, 0, 10 },
                Package () { 0x000fffff, 0, 0, 11 }, Package () { 0x000fffff, 1, 0, 11 },
                Package () { 0x000fffff, 2, 0, 10 }, Package () { 0x000fffff, 3, 0, 10 },
                Package () { 0x0010ffff, 0, 0, 11 }, Package () { 0x0010ffff, 1, 0, 10 },
                Package () { 0x0010ffff, 2, 0, 10 }, Package () { 0x0010ffff, 3, 0, 11 },
                Package () { 0x0011ffff, 0, 0, 10 }, Package () { 0x0011ffff, 1, 0, 10 },
                Package () { 0x0011ffff, 2, 0, 11 }, Package () { 0x0011ffff, 3, 0, 11 },
                Package () { 0x0012ffff, 0, 0, 10 }, Package () { 0x0012ffff, 1, 0, 11 },
                Package () { 0x0012ffff, 2, 0, 11 }, Package () { 0x0012ffff, 3, 0, 10 },
                Package () { 0x0013ffff, 0, 0, 11 }, Package () { 0x0013ffff, 1, 0, 11 },
                Package () { 0x0013ffff, 2, 0, 10 }, Package () { 0x0013ffff, 3, 0, 10 },
                Package () { 0x0014ffff, 0, 0, 11 }, Package () { 0x0014ffff, 1, 0, 10 },
                Package () { 0x0014ffff, 2, 0, 10 }, Package () { 0x0014ffff, 3, 0, 11 },
                Package () { 0x0015ffff, 0, 0, 10 }, Package () { 0x0015ffff, 1, 0, 10 },
                Package () { 0x0015ffff, 2, 0, 11 }, Package () { 0x0015ffff, 3, 0, 11 },
                Package () { 0x0016ffff, 0, 0, 10 }, Package () { 0x0016ffff, 1, 0, 11 },
                Package () { 0x0016ffff, 2, 0, 11 }, Package () { 0x0016ffff, 3, 0, 10 },
                Package () { 0x0017ffff, 0, 0, 11 }, Package () { 0x0017ffff, 1, 0, 11 },
                Package () { 0x0017ffff, 2, 0, 10 }, Package () { 0x0017ffff, 3, 0, 10 },
                Package () { 0x0018ffff, 0, 0, 11 }, Package () { 0x0018ffff, 1, 0, 10 },
                Package () { 0x0018ffff, 2, 0, 10 }, Package () { 0x0018ffff, 3, 0, 11 },
                Package () { 0x0019ffff, 0, 0, 10 }, Package () { 0x0019ffff, 1, 0, 10 },
                Package () { 0x0019ffff, 2, 0, 11 }, Package () { 0x0019ffff, 3, 0, 11 },
                Package () { 0x001affff, 0, 0, 10 }, Package () { 0x001affff, 1, 0, 11 },
                Package () { 0x001affff, 2, 0, 11 }, Package () { 0x001affff, 3, 0, 10 },
                Package () { 0x001bffff, 0, 0, 11 }, Package () { 0x001bffff, 1, 0, 11 },
                Package () { 0x001bffff, 2, 0, 10 }, Package () { 0x001bffff, 3, 0, 10 },
                Package () { 0x001cffff, 0, 0, 11 }, Package () { 0x001cffff, 1, 0, 10 },
                Package () { 0x001cffff, 2, 0, 10 }, Package () { 0x001cffff, 3, 0, 11 },
                Package () { 0x001dffff, 0, 0, 10 }, Package () { 0x001dffff, 1, 0, 10 },
                Package () { 0x001dffff, 2, 0, 11 }, Package () { 0x001dffff, 3, 0, 11 },
                Package () { 0x001effff, 0, 0, 10 }, Package () { 0x001effff, 1, 0, 11 },
                Package () { 0x001effff, 2, 0, 11 }, Package () { 0x001effff, 3, 0, 10 },
                Package () { 0x001fffff, 0, 0, 11 }, Package () { 0x001fffff, 1, 0, 11 },
                Package () { 0x001fffff, 2, 0, 10 }, Package () { 0x001fffff, 3, 0, 10 }
            })

            Device (ISA)
            {
                Name (_ADR, 0x00010000)
                Device (RTC)
                {
                    Name (_HID, EisaId ("PNP0B00"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x70, 0x70, 1, 2)
                        IRQNoFlags () { 8 }
                    })
                }
                Device (COM1)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 1)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x3f8, 0x3f8, 1, 8)
                        IRQNoFlags () { 4 }
                    })
                }
                Device (COM2)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 2)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x2f8, 0x2f8, 1, 8)
                        IRQNoFlags () { 3 }
                    })
                }
                Device (KBD)
                {
                    Name (_HID, EisaId ("PNP0303"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x60, 0x60, 1, 1)
                        IO (Decode16, 0x64, 0x64, 1, 1)
                        IRQNoFlags () { 1 }
                    })
                }
                Device (MOU)
                {
                    Name (_HID, EisaId ("PNP0F13"))
                    Name (_CRS, ResourceTemplate () { IRQNoFlags () { 12 } })
                }
            }
        }
    }
}
