/** The frame of the page: a header, and the tab that the URL names. */
import { lazy, Suspense } from 'react';
import classes from './App.module.css';
import { LoadingFace } from './components/faces';
import { Header } from './components/Header';
import { useUrlState } from './hooks/useUrlState';
import { ExplorePage } from './pages/ExplorePage';

const SqlPage = lazy(() => import('./pages/SqlPage').then(({ SqlPage: page }) => ({ default: page })));

export function App() {
  const [state, update] = useUrlState();
  return (
    <div className={classes['app']}>
      <Header tab={state.tab} onTab={(tab) => update({ tab })} />
      <main className={classes['main']}>
        {state.tab === 'explore' ? (
          <ExplorePage state={state} update={update} />
        ) : (
          <Suspense fallback={<LoadingFace label="Loading the SQL editor" />}>
            <SqlPage metric={state.metric} />
          </Suspense>
        )}
      </main>
    </div>
  );
}
