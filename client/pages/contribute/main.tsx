/** The page a volunteer opens. Nothing is loaded, computed or connected before the click on Start. */
import { render } from 'preact'
import { openContribution, wishOf } from '../contribution.ts'
import { Contribute } from './contribute.tsx'

render(<Contribute contribution={openContribution(wishOf(location.search))} />, document.getElementById('app')!)
