/**
 * Which data a run was created with. It is written down then, so that files that hold other data since are not taken
 * for them, and so that what was learnt from them can still be looked at when they are gone.
 */
import type { Dataset, Split } from './dataset.ts'
import { SHARD_EXAMPLES } from './split.ts'

interface PartIdentity {
  readonly examples: number
  readonly sha256: string
}

export interface Identity {
  readonly inputShape: readonly number[]
  readonly classes: number
  readonly train: PartIdentity
  readonly test: PartIdentity
}

export function identityOf({ inputShape, classes, train, test }: Dataset): Identity {
  const part = ({ examples, sha256 }: Split): PartIdentity => ({ examples, sha256 })
  return { inputShape, classes, train: part(train), test: part(test) }
}

/** What is expected and what is there instead, in words; null where they are the same. */
export function difference(expected: Identity, found: Identity): string | null {
  for (const part of ['train', 'test'] as const) {
    const wanted = inWords(part, expected)
    const got = inWords(part, found)
    if (wanted !== got) return `expected ${wanted}, got ${got}`
  }
  return null
}

const inWords = (part: 'train' | 'test', { inputShape, classes, [part]: { examples, sha256 } }: Identity): string =>
  `${examples} ${part === 'train' ? 'training' : 'test'} examples [${inputShape.join(', ')}] of ${classes} classes ` +
  `with SHA-256 ${sha256.slice(0, 16)}…`

/** Stands for data that are not there: their shape and number, and not one example. */
export function standIn(name: string, { inputShape, classes, train, test }: Identity, absent: string): Dataset {
  const gone = () => {
    throw new Error(`invariant: an example of dataset ${name} is asked for, which is not there: ${absent}`)
  }
  const part = ({ examples, sha256 }: PartIdentity): Split => ({
    ...{ examples, sha256, shardSize: SHARD_EXAMPLES, shards: Math.ceil(examples / SHARD_EXAMPLES) },
    ...{ shard: gone, find: () => null, example: gone },
  })
  return { name, absent, inputShape, classes, train: part(train), test: part(test) }
}
