/**
 * The curves of one stage of a run, live: what it is measured by (stage-kind.ts), of strategies that iterate the loss
 * of each iteration, and how fast and with whom.
 */
import { useState } from 'preact/hooks'
import type { RunDetail, TestPoint } from '../../../shared/api.ts'
import { Chart, type Curve } from './chart.tsx'
import { count, percent } from './figures.ts'
import { classifies, iterates, kindOf } from './stage-kind.ts'
import type { Watch } from './watch.ts'

export function Curves({ run, stage, watch }: { run: RunDetail; stage: string; watch: Watch }) {
  const { train: trained, test: tested, iterations, complete, problem } = watch.curves(run.run).value
  const [logarithmic, setLogarithmic] = useState(false)
  const train = trained.filter((point) => point.stage === stage)
  const test = tested.filter((point) => point.stage === stage)
  if (problem !== null && trained.length === 0) {
    return <p class="panel empty">The curves could not be loaded: {problem.message}</p>
  }
  const empty = !complete
    ? 'Loading…'
    : run.state === 'running' && stage === run.stage
      ? 'The first point appears with the first accepted update.'
      : 'Nothing was computed yet.'
  const untested = test.length === 0 && complete ? 'The first point appears with the first test.' : empty
  const kind = kindOf(run, stage)
  const ofTest = (value: (point: TestPoint) => number | null) =>
    test.flatMap((point): [number, number][] => {
      const known = value(point)
      return known === null ? [] : [[point.seconds, known]]
    })
  const accuracyInTraining: Curve = {
    name: 'train',
    colour: '--pen',
    points: train.map(({ seconds, accuracy }) => [seconds, accuracy]),
  }
  const figure = (value: number) => value.toPrecision(3)
  const logScale = (
    <label class="check">
      <input type="checkbox" checked={logarithmic} onChange={(event) => setLogarithmic(event.currentTarget.checked)} />
      Log scale
    </label>
  )
  return (
    <section class="charts" aria-label="Curves">
      {iterates(run, stage) && stage === run.stage && (
        <Chart
          title="Loss of each iteration"
          axis="iterations"
          empty={complete ? 'The first point appears with the first iteration.' : empty}
          format={figure}
          scale={logarithmic ? 'logarithmic' : 'linear'}
          curves={[
            {
              name: 'with regularisation',
              colour: '--pen',
              sparse: true,
              points: iterations.map(({ iteration, loss }) => [iteration, loss]),
            },
          ]}
        />
      )}
      <Chart
        key={`${stage} loss`}
        title={kind === 'classify' ? 'Loss' : kind === 'reconstruct' ? 'Cross-entropy' : 'Reconstruction error'}
        empty={empty}
        format={figure}
        scale={logarithmic ? 'logarithmic' : 'linear'}
        curves={[
          { name: 'train', colour: '--pen', points: train.map(({ seconds, loss }) => [seconds, loss]) },
          { name: 'test', colour: '--amber', sparse: true, points: ofTest(({ loss }) => loss) },
        ]}
        tool={logScale}
      />
      {classifies(run, stage) && (
        <Chart
          key={`${stage} accuracy`}
          title="Accuracy"
          empty={empty}
          format={(value) => percent(value, 1)}
          scale="share"
          curves={[
            // An RBM is trained without asking for the class.
            ...(kind === 'classify' ? [accuracyInTraining] : []),
            { name: 'test', colour: '--amber', sparse: true, points: ofTest(({ accuracy }) => accuracy) },
          ]}
        />
      )}
      {kind === 'contrastive' && (
        <Chart
          key={`${stage} gap`}
          title="Free-energy gap"
          empty={untested}
          format={figure}
          scale="linear"
          curves={[{ name: 'test less train', colour: '--amber', sparse: true, points: ofTest(gapOf) }]}
        />
      )}
      {kind === 'reconstruct' && (
        <Chart
          key={`${stage} error`}
          title="Squared error"
          empty={untested}
          format={figure}
          scale={logarithmic ? 'logarithmic' : 'linear'}
          curves={[{ name: 'test', colour: '--amber', sparse: true, points: ofTest(({ measure }) => measure) }]}
        />
      )}
      <Chart
        key={`${stage} speed`}
        title="Examples a second"
        empty={empty}
        format={count}
        scale="from-zero"
        curves={[
          {
            name: 'all volunteers',
            colour: '--pen',
            filled: true,
            points: train.map((point) => [point.seconds, point.examplesPerSecond]),
          },
        ]}
      />
      <Chart
        key={`${stage} crowd`}
        title="Crowd"
        empty={empty}
        format={(value) => value.toFixed(1).replace('.0', '')}
        scale="from-zero"
        curves={[
          {
            name: 'volunteers',
            colour: '--pen',
            points: train.map(({ seconds, volunteers }) => [seconds, volunteers]),
          },
          { name: 'staleness', colour: '--amber', points: train.map(({ seconds, staleness }) => [seconds, staleness]) },
        ]}
      />
    </section>
  )
}

/** How much more free energy an RBM gives held-out examples than training ones: what grows when it over-fits. */
export function gapOf({ measure, trainMeasure }: TestPoint): number | null {
  return measure === null || trainMeasure === null ? null : measure - trainMeasure
}
