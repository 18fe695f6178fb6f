/** The server's rate over a run. */
import { expect, it } from 'vitest'
import { rateAt } from '../../coordinator/run/schedule.ts'

const at = (shape: 'constant' | 'linear' | 'cosine', final: number) =>
  [0, 0.25, 0.5, 0.75, 1, 1.5].map((progress) => rateAt({ shape, final, hold: 0 }, 0.4, progress))

it('stays, falls in a line, or in a cosine, to its final share; and not further', () => {
  expect(at('constant', 0)).toEqual([0.4, 0.4, 0.4, 0.4, 0.4, 0.4])
  const close = (got: number[], expected: number[]) => {
    for (const [i, rate] of got.entries()) expect(rate).toBeCloseTo(expected[i], 6)
  }
  close(at('linear', 0), [0.4, 0.3, 0.2, 0.1, 0, 0])
  close(at('linear', 0.5), [0.4, 0.35, 0.3, 0.25, 0.2, 0.2])
  // (1 + cos(π·progress))/2: 1, 0.853553, 0.5, 0.146447, 0
  close(at('cosine', 0), [0.4, 0.341421, 0.2, 0.058579, 0, 0])
  close(at('cosine', 0.1), [0.4, 0.347279, 0.22, 0.092721, 0.04, 0.04])
})

it('stays for the share that it is held, and then falls over what is left', () => {
  const rates = [0, 0.49, 0.5, 0.75, 1].map((progress) =>
    rateAt({ shape: 'linear', final: 0, hold: 0.5 }, 0.4, progress),
  )
  expect(rates).toEqual([0.4, 0.4, 0.4, 0.2, 0])
})

it('[J2] has no digits that another machine could compute otherwise', () => {
  for (let i = 0; i <= 100; i++) {
    const rate = rateAt({ shape: 'cosine', final: 0.01, hold: 0 }, 0.1, i / 100)
    expect(Number(rate.toPrecision(6))).toBe(rate)
  }
})
