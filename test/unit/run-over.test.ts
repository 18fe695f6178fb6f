/** What a run takes once it is over: a coordinator that ran many holds what they came to, not what they were trained with. */
import { describe, expect, test } from 'vitest'
import { codeOf, type Desk, desk, stateOf } from '../support/desk.ts'

const ADAM = { updateRule: { name: 'adam', rate: 0.001 } }

/** Vectors of the parameters' size that the run holds. */
const heldBy = (at: Desk) => at.runs.get('r0')!.parameters.vectors.names
const checkpointed = (at: Desk) => at.journal.loadCheckpoint('r0')!

/** All of one epoch, but for the test of what came of it. */
function trained(): Desk {
  const at = desk(ADAM)
  at.hello('a')
  while (!at.runs.get('r0')!.trained) expect(at.work('a')).toBe('accepted')
  return at
}

function tested(at: Desk): void {
  at.hello('own', { trusted: true })
  expect(at.work('own')).toBe('accepted')
  expect(at.runs.get('r0')!.state).toBe('finished')
}

describe('[J7] a run that is over', () => {
  test('has its optimizer’s state in its last checkpoint only, and its parameters', () => {
    const at = trained()
    expect(heldBy(at)).toEqual(['parameters', 'first', 'second'])
    const before = at.runs.get('r0')!.parameters.snapshot()
    tested(at)
    expect(heldBy(at)).toEqual(['parameters'])
    expect(at.runs.get('r0')!.parameters.snapshot()).toEqual(before)
    expect(checkpointed(at).vectors.map(({ name }) => name)).toEqual(['parameters', 'first', 'second'])
    expect(at.runs.exported(at.runs.get('r0')!, 'model')!.parameters).toEqual(before)
  })

  test('comes back so, and is not written again', () => {
    const at = trained()
    tested(at)
    const again = at.again()
    expect(stateOf(again)).toBe(stateOf(at))
    expect(heldBy(again)).toEqual(['parameters'])
    again.journal.failNext('full')
    again.runs.close()
    expect(again.warnings).toEqual([])
  })

  test('refuses what is still out, as before', () => {
    const at = desk(ADAM)
    at.hello('a')
    expect(at.work('a')).toBe('accepted')
    const lease = at.lease('a')
    const { version } = at.start('a', lease)
    at.runs.move(at.runs.get('r0')!, 'finished', null, at.now)
    at.hello('own', { trusted: true })
    expect(at.work('own')).toBe('accepted')
    expect(heldBy(at)).toEqual(['parameters'])
    expect(codeOf(at.submit('a', lease, version))).toBe('run-not-running')
    expect(at.ask('a')).toBe('the run is finished')
  })

  test('keeps everything until its last checkpoint is written', () => {
    const at = trained()
    at.hello('own', { trusted: true })
    const lease = at.lease('own')
    const { version } = at.start('own', lease)
    // The entry of the test is written, the checkpoint after it is not.
    const { saveCheckpoint } = at.journal
    at.journal.saveCheckpoint = (checkpoint) => {
      at.journal.saveCheckpoint = saveCheckpoint
      at.journal.failNext('full')
      at.journal.saveCheckpoint(checkpoint)
    }
    expect(codeOf(at.submit('own', lease, version))).toBe('accepted')
    expect(at.runs.get('r0')!.state).toBe('finished')
    expect(at.warnings).toHaveLength(1)
    expect(heldBy(at)).toEqual(['parameters', 'first', 'second'])
    at.runs.close()
    expect(checkpointed(at).vectors).toHaveLength(3)
    expect(heldBy(at.again())).toEqual(['parameters'])
  })

  test('by divergence is taken away as its last good checkpoint has it', () => {
    const at = desk({ ...ADAM, checkpointEvery: 2, stop: { epochs: 9 } })
    at.hello('a')
    for (let i = 0; i < 3; i++) expect(at.work('a')).toBe('accepted')
    const good = checkpointed(at)
    at.runs.move(at.runs.get('r0')!, 'failed', 'the loss exploded', at.now)
    expect(heldBy(at)).toEqual(['parameters'])
    expect(checkpointed(at)).toEqual(good)
    const [parameters] = good.vectors
    expect(at.runs.exported(at.runs.get('r0')!, 'model')!.parameters).toEqual(parameters.values)
    expect(heldBy(at.again())).toEqual(['parameters'])
  })
})
