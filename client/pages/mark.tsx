/** The name and its sign, as every page shows them: a G in one pen stroke. */
export function Mark(props: { href?: string; newTab?: boolean; note?: string }) {
  const sign = (
    <>
      <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
        <rect width="32" height="32" rx="9" />
        <path d="M21.5 9.5C19.5 7 15.5 6.5 12.5 8.5 8 11.5 7.5 19.5 11 23c3 3 8 2.5 10.5-.5 1.2-1.5 1.3-3.5.8-5.2h-5.3" />
      </svg>
      <span>Crowdgrad</span>
      {props.note && <span class="mark-note">{props.note}</span>}
    </>
  )
  if (props.href === undefined) return <p class="brand">{sign}</p>
  return (
    <a class="brand" href={props.href} {...(props.newTab ? { target: '_blank', rel: 'noopener' } : {})}>
      {sign}
    </a>
  )
}
