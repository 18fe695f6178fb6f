/** What can be seen of a run: its pictures, drawn anew whenever it is tested. */
import { useEffect, useState } from 'preact/hooks'
import type { RunDetail } from '../../../shared/api.ts'
import { Album } from './album.ts'
import type { Operator } from './operator.ts'
import type { Watch } from './watch.ts'

export function Pictures({ run, operator, watch }: { run: RunDetail; operator: Operator; watch: Watch }) {
  const [album] = useState(() => new Album(operator, run.run))
  const tested = watch.curves(run.run).value.test.at(-1)
  const over = run.state === 'finished' || run.state === 'failed'
  useEffect(() => album.refresh(), [album, tested?.version, run.stage, over])
  useEffect(() => () => album.close(), [album])

  const shots = album.shots.value
  const problem = album.problem.value
  if (shots === null && problem === null) return null
  // A run on anything but images has its numbers only.
  if (shots?.length === 0) return null
  return (
    <section class="panel pictures" aria-labelledby="pictures-title">
      <h2 id="pictures-title">Pictures</h2>
      {shots === null ? (
        <p class="quiet">The pictures could not be loaded: {problem?.message}</p>
      ) : (
        <div class="album">
          {shots.map(({ name, title, words, address }) => (
            <figure key={name} class="picture" data-picture={name}>
              <figcaption>
                <h3>{title}</h3>
                <a href={address} download={`${run.run}-${name}.png`} aria-label={`${title} as a PNG file`}>
                  PNG
                </a>
                <p>{words}</p>
              </figcaption>
              <img src={address} alt={words} />
            </figure>
          ))}
        </div>
      )}
    </section>
  )
}
