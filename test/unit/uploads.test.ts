/** Updates on their way in: what one volunteer may keep there. */
import { expect, test } from 'vitest'
import { Uploads } from '../../coordinator/gateway/uploads.ts'
import type { UpdateRequest } from '../../shared/protocol.ts'

const MEGABYTES = 1 << 20

const update = (lease: string): UpdateRequest => ({
  ...{ lease, version: 0, minibatches: 1, examples: 1, lossSum: 1, correct: 0, computeMs: 1 },
  size: 400 * MEGABYTES,
})

test('[G2] who announces one update after another, and sends none, leaves room for everybody else', () => {
  const uploads = new Uploads()
  expect(uploads.open('ann', update('a'), 0)).toEqual({ ok: true, offset: 0 })
  for (let i = 0; i < 10; i++) expect(uploads.open('eve', update(`e${i}`), 0)).toEqual({ ok: true, offset: 0 })
  // The newest of hers goes on, and so does what others send.
  const open = (volunteer: string, lease: string) => uploads.finish(volunteer, lease)
  expect(open('ann', 'a')).toMatchObject({ code: 'transfer-out-of-order' })
  expect(open('eve', 'e9')).toMatchObject({ code: 'transfer-out-of-order' })
  expect(open('eve', 'e8')).toMatchObject({ code: 'transfer-unknown' })
  expect(open('eve', 'a')).toMatchObject({ code: 'transfer-unknown' })
  // Two of such a size are all that fit; where one was taken, or nothing comes of it, there is room again.
  expect(uploads.open('bob', update('b'), 0)).toMatchObject({ code: 'busy' })
  uploads.close('eve', 'e8')
  expect(uploads.open('bob', update('b'), 0)).toMatchObject({ code: 'busy' })
  uploads.close('eve', 'e9')
  expect(uploads.open('bob', update('b'), 60_000)).toMatchObject({ ok: true })
  uploads.expire(130_000)
  expect(uploads.open('eve', update('e10'), 130_000)).toMatchObject({ ok: true })
  expect(open('bob', 'b')).toMatchObject({ code: 'transfer-out-of-order' })
})
