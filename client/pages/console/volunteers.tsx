/** The volunteers of a run: the connected ones first, then by what they gave. */
import { useState } from 'preact/hooks'
import type { RunDetail, VolunteerDetail } from '../../../shared/api.ts'
import { ago, count, rate } from './figures.ts'

/** So many rows before one has to ask for the rest; a crowd of a thousand would drown the page. */
const FIRST_ROWS = 8

export function Volunteers({ run }: { run: RunDetail }) {
  const [all, setAll] = useState(false)
  const sorted = run.volunteers.toSorted(
    (a, b) =>
      Number(b.connected) - Number(a.connected) || b.examples - a.examples || a.volunteer.localeCompare(b.volunteer),
  )
  const shown = all ? sorted : sorted.slice(0, FIRST_ROWS)
  return (
    <section class="panel volunteers" aria-labelledby="volunteers-title">
      <h2 id="volunteers-title">Volunteers</h2>
      {sorted.every((volunteer) => volunteer.trusted) && <NoVolunteers run={run} />}
      {sorted.length > 0 && <Table volunteers={shown} />}
      {sorted.length > FIRST_ROWS && (
        <button type="button" class="link" onClick={() => setAll(!all)}>
          {all ? 'Show fewer' : `Show all ${count(sorted.length)}`}
        </button>
      )}
    </section>
  )
}

/** The coordinator's own volunteer evaluates and does not train: with it alone, nobody is there yet. */
function NoVolunteers({ run }: { run: RunDetail }) {
  const address = `${location.origin}/?run=${encodeURIComponent(run.run)}`
  return (
    <p class="quiet">
      Nobody has joined yet. Volunteers help this run at <a href={address}>{address}</a>
    </p>
  )
}

function Table({ volunteers }: { volunteers: VolunteerDetail[] }) {
  return (
    <table>
      <thead>
        <tr>
          <th scope="col">Device</th>
          <th scope="col">Backend</th>
          <th scope="col" class="figure">
            Examples
          </th>
          <th scope="col" class="figure">
            Accepted
          </th>
          <th scope="col" class="figure">
            Refused
          </th>
          <th scope="col" class="figure">
            Examples/s
          </th>
          <th scope="col">Connected</th>
        </tr>
      </thead>
      <tbody>
        {volunteers.map((volunteer) => (
          <Row key={volunteer.volunteer} volunteer={volunteer} />
        ))}
      </tbody>
    </table>
  )
}

function Row({ volunteer }: { volunteer: VolunteerDetail }) {
  return (
    <tr class={volunteer.connected ? undefined : 'away'}>
      <th scope="row">
        <span class="device">{volunteer.device}</span>
        <span class="identity" title={volunteer.volunteer}>
          {volunteer.volunteer}
          {volunteer.trusted && <span class="tag">trusted</span>}
        </span>
      </th>
      <td>{volunteer.backend}</td>
      <td data-name="examples" class="figure">
        {count(volunteer.examples)}
      </td>
      <td data-name="accepted" class="figure">
        {count(volunteer.updatesAccepted)}
      </td>
      <td data-name="refused" class={`figure${volunteer.updatesRefused > 0 ? ' some' : ''}`}>
        {count(volunteer.updatesRefused)}
      </td>
      <td data-name="examples/s" class="figure">
        {rate(volunteer.examplesPerSecond)}
      </td>
      <td>
        <span class="state">
          <span class={`dot ${volunteer.connected ? 'good' : 'off'}`} aria-hidden="true" />
          {volunteer.connected ? (volunteer.leases > 0 ? 'working' : 'idle') : ago(volunteer.lastSeen)}
        </span>
      </td>
    </tr>
  )
}
