/** A run's model as files, each made when it is asked for: what `npm run train` writes and the API serves. */
import type { Part, Tensors } from '../../shared/stack.ts'
import { layersModel, safetensors } from '../journal/export.ts'
import { EXPORTS, type ExportName, exported, exportedMachines } from './exported.ts'
import type { History } from './history.ts'

interface ModelFile {
  readonly name: string
  /** Its media type. */
  readonly type: string
  /** null where the run has no such part. */
  bytesOf(history: History): Uint8Array | string | null
  /** What the run then lacks, and which runs have it. */
  readonly lacking: string
}

export const BINARY = 'application/octet-stream'

export const MODEL_FILES: readonly ModelFile[] = [
  ...EXPORTS.flatMap(filesOf),
  {
    name: 'machines.safetensors',
    type: BINARY,
    bytesOf: (history) => asSafetensors(exportedMachines(history)),
    lacking: 'machines: a stack of RBMs has them, and what was pre-trained as one',
  },
]

function filesOf(part: ExportName): ModelFile[] {
  const lacking = `${part}: a stack of RBMs and an autoencoder have one`
  const weightsFile = `${part}.weights.bin`
  const asLayers = (found: Part | null) =>
    found && layersModel(found.topology, found.layout, found.parameters, weightsFile)
  const file = (name: string, type: string, write: (found: Part | null) => Uint8Array | string | null): ModelFile => {
    return { name, type, bytesOf: (history) => write(exported(history, part)), lacking }
  }
  return [
    file(`${part}.json`, 'application/json', (found) => asLayers(found)?.json ?? null),
    file(weightsFile, BINARY, (found) => asLayers(found)?.weights ?? null),
    file(`${part}.safetensors`, BINARY, asSafetensors),
  ]
}

function asSafetensors(tensors: Tensors | null): Uint8Array | null {
  return tensors && safetensors(tensors.layout, tensors.parameters)
}
