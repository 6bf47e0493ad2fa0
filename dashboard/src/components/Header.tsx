/** Name, tabs, and how the server and the connection are doing. */
import { ActionIcon, Tooltip, useComputedColorScheme, useMantineColorScheme } from '@mantine/core';
import type { Tab } from '../state/url';
import classes from './Header.module.css';
import { LinkBadge } from './LinkBadge';
import { Logo } from './Logo';
import { Throughput } from './Throughput';
import { MoonIcon, SunIcon } from './icons';

const TABS: { tab: Tab; label: string }[] = [
  { tab: 'explore', label: 'Explore' },
  { tab: 'sql', label: 'SQL' },
];

interface HeaderProps {
  tab: Tab;
  onTab: (tab: Tab) => void;
}

function SchemeToggle() {
  const { setColorScheme } = useMantineColorScheme();
  const scheme = useComputedColorScheme('light');
  const next = scheme === 'dark' ? 'light' : 'dark';
  return (
    <Tooltip label={`Use ${next} colours`}>
      <ActionIcon variant="subtle" color="gray" aria-label={`Use ${next} colours`} onClick={() => setColorScheme(next)}>
        {scheme === 'dark' ? <SunIcon /> : <MoonIcon />}
      </ActionIcon>
    </Tooltip>
  );
}

export function Header({ tab, onTab }: HeaderProps) {
  return (
    <header className={classes['header']}>
      <Logo />
      <nav className={classes['tabs']} aria-label="Pages">
        {TABS.map((one) => (
          <button
            key={one.tab} type="button" className={classes['tab']} data-testid={`tab-${one.tab}`}
            aria-current={one.tab === tab ? 'page' : undefined} onClick={() => onTab(one.tab)}
          >
            {one.label}
          </button>
        ))}
        <a className={classes['tab']} href="/docs">API</a>
      </nav>
      <div className={classes['figures']}>
        <Throughput />
        <LinkBadge />
        <SchemeToggle />
      </div>
    </header>
  );
}
