/**
 * What can be taken away of a run: the trained network, and of a stack of RBMs or an autoencoder its two halves. While
 * an RBM is being trained the network is the encoder of the stack so far. Of RBMs the machines, too, as they were
 * trained.
 */
import { layout } from '../../shared/layout.ts'
import { decoder, encoder, machines, type Part, type Tensors, type Trained } from '../../shared/stack.ts'
import type { History } from './history.ts'

export const EXPORTS = ['model', 'encoder', 'decoder'] as const
export type ExportName = (typeof EXPORTS)[number]

/** The trained RBMs and the one that is being trained; null where there are none. */
export function exportedMachines({ spec, stage, stack, dataset }: History): Tensors | null {
  const all = stage.plan.layer === null ? stack : [...stack, stage.parameters.snapshot()]
  return all.length === 0 ? null : machines(spec.model, dataset, all)
}

/** null where the run has no such part. */
export function exported(history: History, name: ExportName): Part | null {
  const { spec, stage, stack, dataset } = history
  const trained: Trained =
    stage.plan.layer === null
      ? { network: stage.parameters.snapshot() }
      : { stack: [...stack, stage.parameters.snapshot()] }
  const halves = 'stack' in trained || spec.model.template === 'autoencoder'
  if (name === 'model' && 'network' in trained) return whole(history, trained.network)
  if (!halves) return null
  return name === 'decoder' ? decoder(spec.model, dataset, trained) : encoder(spec.model, dataset, trained)
}

/** The network with its fixed parameters after the trained ones; whoever reads it finds them by name. */
function whole({ model: { topology, layout: trained, fixed } }: History, network: Float32Array): Part {
  if (fixed === null) return { topology, layout: trained, parameters: network }
  const parameters = new Float32Array(trained.size + fixed.layout.size)
  parameters.set(network)
  parameters.set(fixed.values, trained.size)
  return { topology, layout: layout([...trained.slots, ...fixed.layout.slots]), parameters }
}
