/** Updates on their way in: what one volunteer may keep there. */
import { expect, test } from 'vitest'
import { Uploads } from '../../coordinator/gateway/uploads.ts'
import type { UpdateRequest } from '../../shared/protocol.ts'

const MEGABYTES = 1 << 20

const update = (lease: string): UpdateRequest => ({
  ...{ lease, version: 0, minibatches: 1, examples: 1, lossSum: 1, correct: 0, computeMs: 1 },
  size: 7 * MEGABYTES,
})

test('[G2] who announces one update after another, and sends none, leaves room for everybody else', () => {
  const uploads = new Uploads()
  expect(uploads.open('ann', update('a'), 0)).toEqual({ ok: true, offset: 0 })
  for (let i = 0; i < 1_000; i++) expect(uploads.open('eve', update(`e${i}`), 0)).toMatchObject({ ok: true })
  expect(uploads.open('bob', update('b'), 0)).toEqual({ ok: true, offset: 0 })
  // The three that its leases may be of go on, and so does what others send.
  const open = (volunteer: string, lease: string) => uploads.finish(volunteer, lease)
  expect(open('ann', 'a')).toMatchObject({ code: 'transfer-out-of-order' })
  for (const lease of ['e997', 'e998', 'e999'])
    expect(open('eve', lease)).toMatchObject({ code: 'transfer-out-of-order' })
  expect(open('eve', 'e996')).toMatchObject({ code: 'transfer-unknown' })
})
