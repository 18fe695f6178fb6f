/** Counts parameters as papers do. */
import { isConnected, type Layout } from '../../shared/layout.ts'

/** Parameters that training moves: all but those that a table of connections keeps at zero. */
export function movableSize(of: Layout): number {
  let size = of.size
  for (const slot of of.slots) {
    if (slot.init.kind !== 'uniform' || slot.init.connections === undefined) continue
    for (let i = 0; i < slot.size; i++) if (!isConnected(slot, i)) size--
  }
  return size
}
