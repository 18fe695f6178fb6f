/** What a run keeps once it is over: what it came to, not what it was trained with. */
import { describe, expect, test } from 'vitest'
import { exported } from '../../coordinator/run/exported.ts'
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
    expect(exported(at.runs.lastGood(at.runs.get('r0')!), 'model')!.parameters).toEqual(before)
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
    // The entry of the test is written; the checkpoint after it is on its way, and once it fails.
    const { saveCheckpoint } = at.journal
    const onTheirWay: (() => void)[] = []
    at.journal.saveCheckpoint = (checkpoint, written) => {
      onTheirWay.push(() => saveCheckpoint.call(at.journal, checkpoint, written))
    }
    expect(codeOf(at.submit('own', lease, version))).toBe('accepted')
    expect(at.runs.get('r0')!.state).toBe('finished')
    expect(heldBy(at)).toEqual(['parameters', 'first', 'second'])
    at.journal.failNext('full')
    expect(onTheirWay.shift()).toThrow()
    expect(heldBy(at)).toEqual(['parameters', 'first', 'second'])
    at.runs.close()
    onTheirWay.shift()!()
    expect(checkpointed(at).vectors).toHaveLength(3)
    expect(heldBy(at)).toEqual(['parameters'])
  })

  test('whose last checkpoint was not written in time has it written when it comes back', () => {
    const at = trained()
    at.hello('own', { trusted: true })
    const lease = at.lease('own')
    const { version } = at.start('own', lease)
    at.journal.saveCheckpoint = () => {}
    expect(codeOf(at.submit('own', lease, version))).toBe('accepted')
    const again = at.again()
    expect(stateOf(again)).toBe(stateOf(at))
    expect(heldBy(again)).toEqual(['parameters'])
    expect(checkpointed(again).vectors).toHaveLength(3)
  })

  test('is not made ready for volunteers again', () => {
    const at = trained()
    const model = '0'.repeat(64)
    expect(at.runs.blob(model)).not.toBeNull()
    tested(at)
    at.ask('own')
    at.ask('a')
    expect(at.runs.blob(model)).toBeNull()
  })

  test.each([
    { name: 'synchronous', batchSize: 8, portionSize: 4 },
    { name: 'gradient-descent', portionSize: 4, batchSize: 4 },
    { name: 'sandblaster', portionSize: 4, batchSize: 4 },
  ])('in the middle of a batch or pass of $name lets go what is in of it', (strategy) => {
    const at = desk({ strategy, ...(strategy.name === 'synchronous' ? ADAM : {}) })
    at.hello('a')
    expect(at.work('a')).toBe('accepted')
    const { history } = at.runs.get('r0')!
    expect(history.strategy.quiescent).toBe(false)
    at.runs.move(at.runs.get('r0')!, 'finished', null, at.now)
    expect(history.strategy.quiescent).toBe(true)
    expect(history.resting).toBe(true)
    expect(stateOf(at.again())).toBe(stateOf(at))
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
    expect(exported(at.runs.lastGood(at.runs.get('r0')!), 'model')!.parameters).toEqual(parameters.values)
    expect(heldBy(at.again())).toEqual(['parameters'])
  })
})
