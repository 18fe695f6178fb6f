/** Checkpoints that do not read back: what is still in the journal is enough, or the operator is told what to do. */
import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'libsql'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { StorageError } from '../../coordinator/journal/journal.ts'
import { newFolder, removeFolders, SMALL, startCoordinator, type TestCoordinator } from '../support/coordinator.ts'
import { startProgram } from '../support/processes.ts'
import { SyntheticVolunteer } from '../support/synthetic-volunteer.ts'

afterAll(removeFolders)

/** What a test leaves running when it fails. */
const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

async function coordinate(dataFolder: string): Promise<TestCoordinator> {
  const coordinator = await startCoordinator({ dataFolder })
  ends.push(() => coordinator.stop())
  return coordinator
}

interface Kept {
  run: string
  folder: string
  bits: Buffer
}

/** A folder with a run of several checkpoints, whose coordinator is gone. */
async function trained(journal: 'everything' | 'since-checkpoint'): Promise<Kept> {
  const folder = newFolder()
  const coordinator = await coordinate(folder)
  const { run } = await coordinator.createRun({ ...SMALL, journal, checkpointEvery: 4 })
  const volunteer = await SyntheticVolunteer.join(coordinator.url, { run })
  await volunteer.work(14)
  volunteer.close()
  await coordinator.stop()
  return { run, folder, bits: coordinator.bits(run) }
}

/**
 * Flips a bit of a float of so many checkpoints, the newest first; how many there were, and how many entries are
 * pruned.
 */
function damage(folder: string, count: number): { checkpoints: number; pruned: number } {
  const file = new Database(join(folder, 'journal.sqlite'))
  const rows = file.prepare('SELECT id FROM checkpoints ORDER BY seq DESC').all() as { id: number }[]
  for (const { id } of rows.slice(0, count)) {
    const key = [id, 0]
    const find = 'SELECT floats FROM checkpoint_vectors WHERE checkpoint = ? AND position = ?'
    const { floats } = file.prepare(find).get(key) as { floats: Buffer }
    floats[1234] ^= 1
    file.prepare('UPDATE checkpoint_vectors SET floats = ? WHERE checkpoint = ? AND position = ?').run([floats, ...key])
  }
  const { pruned } = file.prepare('SELECT count(*) AS pruned FROM entries WHERE pruned = 1').get() as { pruned: number }
  file.close()
  return { checkpoints: rows.length, pruned }
}

const copied = (folder: string) => {
  const copy = newFolder()
  copyFileSync(join(folder, 'journal.sqlite'), join(copy, 'journal.sqlite'))
  return copy
}

const SAYS = (run: string) =>
  new RegExp(`run ${run} has no checkpoint that reads back.*pruned.*restore a copy of the data folder.*move it aside`)

describe('damaged checkpoints', () => {
  test('of a pruned journal, both of them: the start is refused and says what to do, and a restored copy starts [J4]', async () => {
    const { run, folder, bits } = await trained('since-checkpoint')
    const backup = copied(folder)
    const found = damage(folder, 2)
    expect(found.checkpoints).toBe(2)
    expect(found.pruned).toBeGreaterThan(0)

    // Neither refusal changes anything that the next would find otherwise.
    for (let i = 0; i < 2; i++) {
      const error: unknown = await coordinate(folder).catch((error) => error)
      expect(error).toBeInstanceOf(StorageError)
      expect((error as StorageError).fault).toBe('damaged')
      expect((error as StorageError).message).toMatch(SAYS(run))
    }
    const program = startProgram('coordinator/main.ts', [], { PORT: '0', CROWDGRAD_DATA: folder })
    ends.push(() => program.end())
    expect(await program.exit).toBe(1)
    expect(program.errors()).toMatch(new RegExp(`^crowdgrad: ${SAYS(run).source}`))
    expect(program.errors().trim().split('\n').length, 'one line for the operator, no stack').toBe(1)

    // As the message says.
    copyFileSync(join(backup, 'journal.sqlite'), join(folder, 'journal.sqlite'))
    const restored = await coordinate(folder)
    expect(restored.bits(run).equals(bits)).toBe(true)
    const volunteer = await SyntheticVolunteer.join(restored.url, { run })
    await volunteer.work(1)
    volunteer.close()
  })

  test('the newest of a pruned journal: the one before and what came after it give the same bits [J2] [J4]', async () => {
    const { run, folder, bits } = await trained('since-checkpoint')
    expect(damage(folder, 1).pruned).toBeGreaterThan(0)
    const recovered = await coordinate(folder)
    expect(recovered.bits(run).equals(bits)).toBe(true)
  })

  test('both, of a journal that keeps everything: it is folded from its first entry to the same bits [J2] [J4]', async () => {
    const { run, folder, bits } = await trained('everything')
    expect(damage(folder, 2)).toEqual({ checkpoints: 2, pruned: 0 })
    const recovered = await coordinate(folder)
    expect(recovered.bits(run).equals(bits)).toBe(true)
  })
})
